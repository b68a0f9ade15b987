"""Generation with a cache against the book's loop without one, and prompts of different lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpt.books import greedy_text
from gpt.tiny import ids_of, one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.generate import generate_batch, generate_text
from nanograd_gpt.generation.sampling import Sampling
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.rng import Generator

LONG = GPTConfig(vocab_size=61, context_length=320, emb_dim=32, n_heads=4, n_layers=3, drop_rate=0.1, qkv_bias=True)
SHORT = replace(LONG, context_length=24)
LENGTHS = [3, 17, 1, 24, 30, 9]  # of prompts; two of them leave no room in SHORT's context


def model_of(config: GPTConfig, dtype: Any = np.float32) -> GPTModel:
    """A random model whose block weights are tripled, so that the text does not repeat one token."""
    model = GPTModel(config, rng=Generator(7)).to(dtype=dtype).eval()
    for p in model.trf_blocks.parameters():
        p.data *= 3
    return model


def prompts_of(lengths: list[int]) -> list[npt.NDArray[np.int64]]:
    return [ids_of((n,), LONG, seed=i) for i, n in enumerate(lengths)]


# --- the book's tokens


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_300_greedy_tokens_are_those_of_the_books_loop(dtype: Any) -> None:
    model, prompt = model_of(LONG, dtype), ids_of((1, 6), LONG, seed=3)
    text = generate_text(model, prompt, 300, 320)
    assert len(set(text[0].tolist())) > 20
    np.testing.assert_array_equal(text, greedy_text(model, prompt, 300, 320))
    with no_grad():
        second, first = np.sort(model(text).data[0, 5:-1])[:, -2:].T
    assert (first - second).min() > 1e-3  # float32 logits of this model are off by up to 1e-4


@pytest.mark.parametrize("context_size", [24, 10, 1])
def test_beyond_the_context_greedy_tokens_are_those_of_the_books_loop(context_size: int) -> None:
    model, prompts = model_of(SHORT), ids_of((3, 6), LONG)
    text = generate_text(model, prompts, 100, context_size)
    np.testing.assert_array_equal(text, greedy_text(model, prompts, 100, context_size))


def test_within_the_context_only_the_new_token_is_read_and_beyond_it_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(SHORT)
    shapes = []
    hidden_states = model.hidden_states

    def watched(*inputs: Any) -> Any:
        shapes.append(inputs[0].shape)
        return hidden_states(*inputs)

    monkeypatch.setattr(model, "hidden_states", watched)
    generate_text(model, ids_of((2, 20), LONG), 8, 24)
    assert shapes == [(2, 20), *[(2, 1)] * 4, *[(2, 24)] * 3]


def test_in_training_mode_dropout_falls_anew_for_each_token() -> None:
    def trained(rng: Generator, draws: bool) -> GPTModel:
        model = GPTModel(replace(SHORT, drop_rate=0.5 if draws else 0.0), rng=rng)
        return model.train()

    idx = ids_of((2, 6), LONG)
    assert generate_text(trained(Generator(1), True), idx, 20, 24).tolist() == (
        greedy_text(trained(Generator(1), True), idx, 20, 24).tolist()
    )
    assert generate_text(trained(Generator(1), True), idx, 20, 24).tolist() != (
        generate_text(trained(Generator(1), False), idx, 20, 24).tolist()
    )


# --- prompts of different lengths


def test_each_of_several_prompts_continues_as_it_would_alone() -> None:
    model, prompts = model_of(SHORT), prompts_of(LENGTHS)
    texts = generate_batch(model, prompts, 40, 24)
    for text, prompt in zip(texts, prompts, strict=True):
        np.testing.assert_array_equal(text, greedy_text(model, prompt[None], 40, 24)[0])


def test_each_of_several_prompts_ends_where_it_would_alone() -> None:
    model, prompts = model_of(SHORT), prompts_of(LENGTHS)
    whole = np.concatenate([text[-30:] for text in generate_batch(model, prompts, 30, 24)])
    eos = int(np.bincount(whole).argmax())
    texts = generate_batch(model, prompts, 30, 24, eos_id=eos)
    new = set()
    for text, prompt in zip(texts, prompts, strict=True):
        np.testing.assert_array_equal(text, generate_text(model, prompt[None], 30, 24, eos_id=eos)[0])
        new.add(len(text) - len(prompt))
    assert len(new) > 2  # they end at different times


def test_prompts_of_one_length_give_the_rows_of_generate_text() -> None:
    model, prompts = model_of(SHORT), ids_of((3, 6), LONG)
    settings: dict[str, Any] = {"temperature": 1.0, "top_k": 10}
    texts = generate_batch(model, list(prompts), 20, 24, Sampling(**settings), rng=Generator(5))
    np.testing.assert_array_equal(texts, generate_text(model, prompts, 20, 24, **settings, rng=Generator(5)))


def test_that_a_row_ends_changes_no_number_drawn_for_the_others() -> None:
    model, prompts = model_of(SHORT), ids_of((3, 6), LONG)
    endless = generate_text(model, prompts, 40, 24, temperature=1.5, rng=Generator(5))
    eos = int(endless[0, 8])
    texts = generate_batch(model, list(prompts), 40, 24, Sampling(1.5), eos, Generator(5))
    for text, row in zip(texts, endless, strict=True):
        end = [*row[6:], eos].index(eos) + 6
        np.testing.assert_array_equal(text, row[:end])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_new_tokens_are_whole_whatever_the_prompts_integers(dtype: Any) -> None:
    model = GPTModel(replace(SHORT, vocab_size=70_000, emb_dim=4, n_heads=1, n_layers=1), rng=Generator(2)).eval()
    prompt = np.array([1, 2], dtype=dtype)
    expected = greedy_text(model, prompt[None].astype(np.int64), 5, 24)
    assert expected.max() > np.iinfo(np.int16).max
    np.testing.assert_array_equal(generate_text(model, prompt[None], 5, 24), expected)
    np.testing.assert_array_equal(generate_batch(model, [prompt], 5, 24), expected)


def test_prompts_may_be_lists_and_are_not_changed() -> None:
    model = model_of(SHORT)
    prompts = [[1, 2, 3], [4]]
    texts = generate_batch(model, prompts, 2, 24)
    assert prompts == [[1, 2, 3], [4]]
    assert [text.tolist()[:-2] for text in texts] == prompts
    arrays = generate_batch(model, [np.array(p) for p in prompts], 2, 24)
    for a, b in zip(texts, arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "prompts: the list is empty; give at least one prompt"),
        ([[1, 2], []], "prompts: expected token ids of shape (T,) with T >= 1, got (0,) in row 1"),
        ([[[1, 2]]], "prompts: expected token ids of shape (T,) with T >= 1, got (1, 2) in row 0"),
        ([[1, 2], [61]], "ids: 0 .. 61 reach outside the vocabulary, 0 .. 60"),
    ],
)
def test_prompts_that_are_no_rows_of_tokens_are_refused(prompts: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        generate_batch(model_of(SHORT), prompts, 2, 24)
    assert one_line(error) == message
