"""Greedy and sampled generation row by row, end of text, and refused settings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.generate import generate, generate_batch, generate_text, generate_text_simple
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

CONFIG = GPTConfig(vocab_size=23, context_length=6, emb_dim=8, n_heads=2, n_layers=2, drop_rate=0.0, qkv_bias=True)
INF = np.inf

Ints = npt.NDArray[np.int64]


class Texts(list[list[int]]):
    """A cache that stores the tokens themselves."""

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self]

    def select(self, rows: Ints) -> Texts:
        return Texts(list(self[i]) for i in rows)


class Chain:
    """A model whose logits are the last token's row of a table.  Records the tokens of each call."""

    training = False

    def __init__(self, table: npt.NDArray[Any], context_length: int = 100) -> None:
        self.config = SimpleNamespace(vocab_size=len(table), context_length=context_length)
        self.table = table
        self.seen: list[list[list[int]]] = []

    def new_cache(self, batch_size: int, capacity: int) -> Texts:
        return Texts([] for _ in range(batch_size))

    def next_token_logits(self, ids: Ints, cache: Texts | None, counts: Ints) -> Tensor:
        rows = Texts([] for _ in ids) if cache is None else cache
        for row, new, count in zip(rows, ids.tolist(), counts, strict=True):
            row += new[:count]
        self.seen.append([list(row) for row in rows])
        return Tensor(self.table[[row[-1] for row in rows]])


def counting(vocab_size: int = 10, context_length: int = 100) -> Any:
    """A model that continues i with i + 1, and the last token with the first."""
    return Chain(np.roll(np.eye(vocab_size, dtype=np.float32), 1, axis=1), context_length)


@pytest.fixture(scope="module")
def model() -> GPTModel:
    """A random model whose block weights are tripled, so that the text does not repeat one token."""
    model = GPTModel(CONFIG, rng=Generator(7)).to(dtype=np.float64).eval()
    for p in model.trf_blocks.parameters():
        p.data *= 3
    return model


def prompt_of(rows: int, length: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, (rows, length))


# --- greedy


def test_greedy_text_takes_the_largest_logit_each_time(model: GPTModel) -> None:
    expected = prompt_of(1, 3)
    for _ in range(20):
        logits = model(expected[:, -6:]).data[0, -1]
        expected = np.append(expected, [[logits.argmax()]], axis=1)
    text = generate_text(model, prompt_of(1, 3), 20, 6)
    assert len(set(text[0].tolist())) > 5
    np.testing.assert_array_equal(text, expected)


def test_each_row_of_a_batch_equals_the_row_alone(model: GPTModel) -> None:
    prompts = prompt_of(5, 4)
    together = generate_text(model, prompts, 15, 6)
    alone = [generate_text(model, row[None], 15, 6) for row in prompts]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_of_equal_logits_greedy_takes_the_first() -> None:
    chain: Any = Chain(np.zeros((4, 4)))
    assert generate_text(chain, np.array([[3]]), 2, 5).tolist() == [[3, 0, 0]]


def test_generate_is_the_same_under_the_name_of_the_books_package() -> None:
    assert generate is generate_text


def test_the_books_first_generate_is_the_greedy_one(model: GPTModel) -> None:
    prompt = prompt_of(2, 3)
    text = generate_text_simple(model, idx=prompt, max_new_tokens=20, context_size=6)
    np.testing.assert_array_equal(text, generate_text(model, prompt, 20, 6))
    assert text.shape == (2, 23)


def test_the_prompt_is_neither_changed_nor_lost() -> None:
    prompt = np.array([[1, 2]])
    assert generate_text(counting(), prompt, 3, 5).tolist() == [[1, 2, 3, 4, 5]]
    assert prompt.tolist() == [[1, 2]]


def test_0_new_tokens_give_the_prompt_and_ask_the_model_nothing() -> None:
    chain = counting()
    assert generate_text(chain, np.array([[1, 2]]), 0, 5).tolist() == [[1, 2]]
    assert chain.seen == []


@pytest.mark.parametrize("context_size", [1, 3, 6])
def test_the_model_sees_the_last_context_size_tokens(context_size: int) -> None:
    chain = counting(context_length=6)
    text = generate_text(chain, np.array([[0, 1, 2, 3]]), 5, context_size)
    assert text.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8]]
    assert chain.seen == [text[:, : 4 + i][:, -context_size:].tolist() for i in range(5)]


def test_a_prompt_longer_than_the_context_is_cropped_for_the_model_alone(model: GPTModel) -> None:
    prompt = prompt_of(1, 15)
    text = generate_text(model, prompt, 4, 6)
    np.testing.assert_array_equal(text[:, :15], prompt)
    np.testing.assert_array_equal(text[:, 15:], generate_text(model, prompt[:, -6:], 4, 6)[:, 6:])


def test_no_graph_is_recorded(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []
    forward = model.final_norm.forward

    def watched(x: Tensor) -> Tensor:
        recorded.append(x.requires_grad)
        return forward(x)

    monkeypatch.setattr(model.final_norm, "forward", watched)
    generate_text(model, prompt_of(1, 5), 3, 6)  # the last of them beyond the context
    assert recorded == [False, False, False]
    model(prompt_of(1, 3))
    assert recorded[-1]


# --- the end of a text


def test_one_row_ends_before_eos_which_is_not_appended() -> None:
    chain = counting()
    assert generate_text(chain, np.array([[1]]), 8, 5, eos_id=4).tolist() == [[1, 2, 3]]
    assert len(chain.seen) == 3


def test_eos_as_the_first_new_token_leaves_the_prompt() -> None:
    assert generate_text(counting(), np.array([[2, 3]]), 8, 5, eos_id=4).tolist() == [[2, 3]]


def test_eos_in_the_prompt_ends_nothing() -> None:
    assert generate_text(counting(), np.array([[4]]), 2, 5, eos_id=4).tolist() == [[4, 5, 6]]


def test_a_row_that_has_ended_is_filled_with_eos_while_others_go_on() -> None:
    text = generate_text(counting(), np.array([[2], [0], [4]]), 3, 5, eos_id=4)
    assert text.tolist() == [[2, 3, 4, 4], [0, 1, 2, 3], [4, 5, 6, 7]]


def test_all_rows_ended_end_the_text() -> None:
    chain = counting()
    text = generate_text(chain, np.array([[2], [0], [3]]), 50, 5, eos_id=4)
    assert text.tolist() == [[2, 3, 4, 4], [0, 1, 2, 3], [3, 4, 4, 4]]
    assert len(chain.seen) == 4


def test_of_a_row_that_has_ended_the_model_is_asked_no_more() -> None:
    chain = counting()
    generate_text(chain, np.array([[2], [0], [3]]), 50, 5, eos_id=4)
    assert chain.seen == [[[2], [0], [3]], [[2, 3], [0, 1]], [[0, 1, 2]], [[0, 1, 2, 3]]]


def test_what_a_row_would_say_after_its_end_does_not_revive_it() -> None:
    table = np.roll(np.eye(10), 1, axis=1)
    table[4] = np.eye(10)[7]  # after eos comes 7
    chain: Any = Chain(table)
    text = generate_text(chain, np.array([[3], [8]]), 4, 5, eos_id=4)
    assert text.tolist() == [[3, 4, 4, 4, 4], [8, 9, 0, 1, 2]]


def test_without_eos_id_nothing_ends_the_text() -> None:
    assert generate_text(counting(5), np.array([[0]]), 7, 5).tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_row_with_eos_equals_the_row_alone_up_to_its_end(model: GPTModel, temperature: float) -> None:
    prompts = prompt_of(6, 3, seed=2)
    settings: dict[str, Any] = {"temperature": temperature, "top_k": 1 if temperature else None}
    whole = generate_text(model, prompts, 20, 6, **settings)
    eos = int(np.bincount(whole[:, 3:].ravel()).argmax())
    text = generate_text(model, prompts, 20, 6, eos_id=eos, **settings)
    lengths = []
    for row, prompt in zip(text, prompts, strict=True):
        alone = generate_text(model, prompt[None], 20, 6, eos_id=eos, **settings)[0]
        np.testing.assert_array_equal(row[: len(alone)], alone)
        assert (row[len(alone) :] == eos).all()
        lengths.append(len(alone))
    assert len(set(lengths)) > 1  # rows of several lengths


# --- sampling


def chi_square(counts: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> float:
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    p = np.exp(logits - logits.max())
    return p / p.sum()


LOGITS = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5, 0.2])
CRITICAL = 24.32  # of chi-square with 7 degrees of freedom, at 0.001


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tokens_are_drawn_as_the_softmax_of_logits_over_temperature_says(temperature: float, dtype: Any) -> None:
    chain: Any = Chain(np.tile(LOGITS.astype(dtype), (8, 1)))
    drawn = generate_text(chain, np.zeros((20_000, 1), dtype=int), 1, 5, temperature=temperature, rng=Generator(11))
    counts = np.bincount(drawn[:, 1], minlength=8)
    assert chi_square(counts, softmax(LOGITS / temperature)) < CRITICAL
    assert chi_square(counts, softmax(LOGITS / (1.2 * temperature))) > CRITICAL  # it would show


def test_top_k_of_1_is_greedy_at_any_temperature(model: GPTModel) -> None:
    greedy = generate_text(model, prompt_of(2, 3), 10, 6)
    for temperature in (0.1, 1.0, 50.0):
        np.testing.assert_array_equal(
            generate_text(model, prompt_of(2, 3), 10, 6, temperature=temperature, top_k=1), greedy
        )


def test_a_low_temperature_is_greedy(model: GPTModel) -> None:
    cold = generate_text(model, prompt_of(3, 3), 10, 6, temperature=1e-6)
    np.testing.assert_array_equal(cold, generate_text(model, prompt_of(3, 3), 10, 6))


def test_a_seed_decides_the_text(model: GPTModel) -> None:
    def text(seed: int) -> list[list[int]]:
        return generate_text(model, prompt_of(2, 3), 30, 6, temperature=1.5, top_k=10, rng=Generator(seed)).tolist()

    assert text(3) == text(3)
    assert text(3) != text(4)


def test_one_stream_gives_another_text_each_time(model: GPTModel) -> None:
    rng = Generator(3)
    first, second = (generate_text(model, prompt_of(1, 3), 30, 6, temperature=1.5, rng=rng) for _ in range(2))
    assert first.tolist() != second.tolist()


def test_greedy_text_draws_nothing(model: GPTModel) -> None:
    rng = Generator(3)
    generate_text(model, prompt_of(1, 3), 5, 6, top_k=3, rng=rng)
    assert rng.state() == Generator(3).state()


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"idx": np.zeros((1, 0), dtype=int)},
            "prompt: expected token ids of shape (B, T) with T >= 1, got shape (1, 0)",
        ),
        (
            {"idx": np.zeros((0, 3), dtype=int)},
            "prompt: expected token ids of shape (B, T) with T >= 1, got shape (0, 3)",
        ),
        ({"idx": np.array([1, 2])}, "prompt: expected token ids of shape (B, T) with T >= 1, got shape (2,)"),
        ({"max_new_tokens": -1}, "max_new_tokens: -1 is not allowed; choose a number 0 .. 1000000000"),
        ({"context_size": 0}, "context_size: 0 is not allowed; choose 1 .. 6"),
        ({"context_size": -3}, "context_size: -3 is not allowed; choose 1 .. 6"),
        ({"context_size": 7}, "context_size: 7 is not allowed; choose 1 .. 6"),
        ({"temperature": -0.1}, "temperature: -0.1 is not allowed; choose a finite number >= 0"),
        ({"temperature": np.nan}, "temperature: nan is not allowed; choose a finite number >= 0"),
        ({"temperature": np.inf}, "temperature: inf is not allowed; choose a finite number >= 0"),
        ({"top_k": 0}, "top_k: 0 is not allowed; choose 1 .. 23 (the vocabulary)"),
        ({"top_k": -1}, "top_k: -1 is not allowed; choose 1 .. 23 (the vocabulary)"),
        ({"top_k": 24}, "top_k: 24 is not allowed; choose 1 .. 23 (the vocabulary)"),
        ({"idx": np.array([[1, 23]])}, "ids: 1 .. 23 reach outside the vocabulary, 0 .. 22"),
        ({"idx": np.array([[0.0, 1.0]])}, "ids: expected integers of shape (B, T), got float64 of shape (1, 2)"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(model: GPTModel, settings: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"idx": np.array([[1, 2]]), "max_new_tokens": 2, "context_size": 6}
    with pytest.raises(InputError) as error:
        generate_text(model, **(good | settings))
    assert str(error.value) == message


@pytest.mark.parametrize("settings", [{"context_size": 1}, {"top_k": 23}, {"top_k": 1}, {"temperature": 1e3}])
def test_settings_at_the_ends_of_their_ranges_are_allowed(model: GPTModel, settings: dict[str, Any]) -> None:
    good: dict[str, Any] = {"idx": np.array([[1, 2]]), "max_new_tokens": 2, "context_size": 6}
    assert generate_text(model, **(good | settings)).shape == (1, 4)


@pytest.mark.parametrize("rng", [123, np.random.default_rng(1), 0])
def test_an_rng_that_is_not_a_stream_is_named(model: GPTModel, rng: Any) -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(TypeError, match=r"rng is (int|numpy's Generator), expected nanograd_gpt's Generator or"):
            generate_text(model, [[1, 2]], 2, 6, temperature, rng=rng)


@pytest.mark.parametrize("idx", ["The cat", ["The cat"]])
def test_a_text_in_place_of_ids_says_how_to_encode_it(model: GPTModel, idx: Any) -> None:
    message = r"is text; encode it with text_to_token_ids\(text, tokenizer\), or use complete\(model, text, tokenizer\)"
    for call in (generate_text, generate_batch):
        with pytest.raises(TypeError, match=f"(idx|prompts): 'The cat' {message}"):
            call(model, idx, 2, 6)
