"""Beam search against exhaustive search and greedy decoding, and its stopping rule."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpt.tiny import one_line

from nanograd_gpt.backend.plain.activation import log_softmax
from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.generation.beam import Beam, beam_search
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator

V, STEPS, CONTEXT = 5, 6, 9
CONFIG = GPTConfig(vocab_size=V, context_length=CONTEXT, emb_dim=8, n_heads=2, n_layers=2, drop_rate=0.1, qkv_bias=True)
PROMPT = np.array([1, 4, 2])

Ints = npt.NDArray[np.int64]


def model_of(seed: int, config: GPTConfig = CONFIG) -> GPTModel:
    """A random model whose block weights are tripled, so that its texts differ."""
    model = GPTModel(config, rng=Generator(seed)).to(dtype=np.float64).eval()
    for p in model.trf_blocks.parameters():
        p.data *= 3
    return model


def log_probability(model: GPTModel, text: Ints, n_new: int, context_size: int = CONTEXT) -> float:
    """Log probability of the last n_new tokens, each given the previous tokens that fit the context."""
    total = 0.0
    for end in range(len(text) - n_new, len(text)):
        logits = model(text[None, max(0, end - context_size) : end]).data[:, -1]
        total += float(log_softmax(logits, axis=-1)[0, text[end]])
    return total


def every_text(model: GPTModel, length_penalty: float, eos: int | None) -> list[Beam]:
    """All continuations of STEPS tokens, or ended by eos earlier, best first."""
    ends = {tokens[: tokens.index(eos) + 1] if eos in tokens else tokens for tokens in product(range(V), repeat=STEPS)}
    texts = np.array([[*PROMPT, *tokens, *[0] * (STEPS - len(tokens))] for tokens in ends])
    logs = log_softmax(model(texts[:, :-1]).data.reshape(-1, V), axis=-1).reshape(len(texts), -1, V)
    of_token = np.take_along_axis(logs, texts[:, 1:, None], axis=2)[:, len(PROMPT) - 1 :, 0]
    found = []
    for tokens, row in zip(ends, of_token, strict=True):
        score = row[: len(tokens)].sum() / len(tokens) ** length_penalty
        new = tokens[:-1] if tokens[-1] == eos else tokens
        found.append(Beam(np.array([*PROMPT, *new]), float(score)))
    return sorted(found, key=lambda beam: -beam.score)


@pytest.mark.parametrize("eos", [None, 3])
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_with_room_for_every_text_it_finds_the_best_of_all(seed: int, length_penalty: float, eos: int | None) -> None:
    model = model_of(seed)
    found = beam_search(model, PROMPT, STEPS, CONTEXT, V**STEPS, length_penalty, 20, eos)
    for ours, best in zip(found, every_text(model, length_penalty, eos)[:20], strict=True):
        assert abs(ours.score - best.score) < 1e-10
        np.testing.assert_array_equal(ours.text, best.text)


@pytest.mark.parametrize("eos", [None, 3])
@pytest.mark.parametrize("n_beams", [2, 3, 10])
def test_with_less_room_what_it_finds_is_among_all_texts_with_its_true_score(n_beams: int, eos: int | None) -> None:
    model = model_of(3)
    all_scores: dict[tuple[int, ...], list[float]] = {}  # with eos, of a text that ends there and one that goes on
    for beam in every_text(model, 1.0, eos):
        all_scores.setdefault(tuple(beam.text), []).append(beam.score)
    found = beam_search(model, PROMPT, STEPS, CONTEXT, n_beams, n_best=n_beams, eos_id=eos)
    scores = [beam.score for beam in found]
    assert scores == sorted(scores, reverse=True)
    assert len({tuple(beam.text) for beam in found}) == n_beams
    for beam in found:
        assert min(abs(beam.score - score) for score in all_scores[tuple(beam.text)]) < 1e-10


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("context_size", [CONTEXT, 4])
def test_one_beam_is_greedy(seed: int, context_size: int) -> None:
    model = model_of(seed)
    greedy = generate_text(model, PROMPT[None], 30, context_size)[0]
    (beam,) = beam_search(model, PROMPT, 30, context_size, 1)
    np.testing.assert_array_equal(beam.text, greedy)
    assert abs(beam.score - log_probability(model, greedy, 30, context_size) / 30) < 1e-10


def test_more_beams_find_a_likelier_text_where_greedy_is_misled() -> None:
    """Token 0 is more likely at first, but its successors are not; token 1 is always followed by 2."""
    table = np.log(
        np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0.01, 0.01, 0.96, 0.01, 0.01], *[[0.5, 0.4, 0.04, 0.03, 0.03]] * 3])
    )
    model: Any = Chain(table)
    assert beam_search(model, [4], 2, CONTEXT, 1)[0].text.tolist() == [4, 0, 0]
    assert beam_search(model, [4], 2, CONTEXT, 2)[0].text.tolist() == [4, 1, 2]


def test_beyond_the_context_a_beam_sees_its_own_last_tokens() -> None:
    model = model_of(4)
    for beam in beam_search(model, PROMPT, 12, 5, 3, n_best=3):
        assert abs(beam.score - log_probability(model, beam.text, 12, 5) / 12) < 1e-10


def test_within_the_context_the_cache_follows_the_beams() -> None:
    model = model_of(5)
    for beam in beam_search(model, PROMPT, STEPS, CONTEXT, 4, n_best=4):
        assert abs(beam.score - log_probability(model, beam.text, STEPS) / STEPS) < 1e-10


class Chain:
    """A model whose logits are the last token's row of a table; counts its calls."""

    training = False

    def __init__(self, table: npt.NDArray[Any]) -> None:
        self.config, self.table, self.asked = CONFIG, table, 0

    def new_cache(self, batch_size: int, capacity: int) -> Held:
        return Held([0] * batch_size)

    def next_token_logits(self, ids: Ints, cache: Held | None, counts: Ints) -> Any:
        self.asked += 1
        if cache is not None:
            cache.lengths = [n + int(count) for n, count in zip(cache.lengths, counts, strict=True)]
        return Logits(self.table[ids[np.arange(len(ids)), counts - 1]])


class Held:
    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def select(self, rows: list[int]) -> Held:
        return Held([self.lengths[i] for i in rows])


class Logits:
    def __init__(self, data: npt.NDArray[Any]) -> None:
        self.data = data


def test_it_ends_when_nothing_under_way_can_become_better() -> None:
    """eos is nearly certain after every token, so two beams end early and the others cannot catch up."""
    chain: Any = Chain(np.log(np.tile([0.05, 0.03, 0.02, 0.89, 0.01], (5, 1))))
    first, second = beam_search(chain, [0], 500, CONTEXT, 2, 0.0, 2, eos_id=3)
    assert (first.text.tolist(), second.text.tolist()) == ([0], [0, 0])
    assert chain.asked < 5
    assert abs(first.score - np.log(0.89)) < 1e-12
    assert abs(second.score - np.log(0.05 * 0.89)) < 1e-12


def test_the_score_counts_the_end_and_the_text_does_not() -> None:
    chain: Any = Chain(np.log(np.tile([0.05, 0.03, 0.02, 0.89, 0.01], (5, 1))))
    best = beam_search(chain, [0, 1], 1, CONTEXT, 2, eos_id=3)[0]
    assert best.text.tolist() == [0, 1]
    assert abs(best.score - np.log(0.89)) < 1e-12


def test_0_new_tokens_give_the_prompt() -> None:
    (beam,) = beam_search(model_of(1), PROMPT, 0, CONTEXT, 3)
    assert (beam.text.tolist(), beam.score) == (PROMPT.tolist(), 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_beams": 0}, "beams: 0 is not allowed; choose a number 1 .. 13591668 (this model's, in 8 GiB)"),
        ({"n_best": 0}, "n_best: 0 is not allowed; choose 1 .. 2 (the number of beams)"),
        ({"n_best": 3}, "n_best: 3 is not allowed; choose 1 .. 2 (the number of beams)"),
        ({"length_penalty": np.nan}, "length_penalty: nan is not allowed; choose a number in [-10, 10]"),
        ({"length_penalty": 400}, "length_penalty: 400 is not allowed; choose a number in [-10, 10]"),
        ({"length_penalty": -2000.0}, "length_penalty: -2000.0 is not allowed; choose a number in [-10, 10]"),
        ({"max_new_tokens": -1}, "max_new_tokens: -1 is not allowed; choose a number 0 .. 1000000000"),
        ({"context_size": 10}, "context_size: 10 is not allowed; choose 1 .. 9"),
        ({"prompt": []}, "prompts: expected token ids of shape (T,) with T >= 1, got (0,) in row 0"),
        ({"prompt": [1, 5]}, "ids: 1 .. 5 reach outside the vocabulary, 0 .. 4"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"prompt": [1, 2], "max_new_tokens": 2, "context_size": 6, "n_beams": 2}
    with pytest.raises(InputError) as error:
        beam_search(model_of(1), **(good | settings))
    assert one_line(error) == message


def test_logits_of_nan_are_refused() -> None:
    chain: Any = Chain(np.full((5, 5), np.nan))
    with pytest.raises(RunError, match="logits are not finite"):
        beam_search(chain, [0], 2, CONTEXT, 2)
