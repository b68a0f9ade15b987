"""KVCache: a model that continues from it computes the same as from the whole text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.kv_cache import KVCache
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.rng import Generator

from .tiny import ids_of, one_line

CONFIG = GPTConfig(vocab_size=37, context_length=100, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.1, qkv_bias=True)
TOLERANCES = [(np.float32, 1e-5), (np.float64, 1e-12)]

Floats = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


def model_of(dtype: Any = np.float64) -> GPTModel:
    return GPTModel(CONFIG, rng=Generator(7)).to(dtype=dtype).eval()


def logits_of(model: GPTModel, ids: Ints, cache: KVCache | None = None) -> Floats:
    with no_grad():
        logits: Floats = model(ids, cache=cache).data
    return logits


def fed(model: GPTModel, rows: list[Ints], cache: KVCache) -> Floats:
    """The next token's logits (B, V), after rows of different lengths were added to the cache."""
    counts = np.array([len(row) for row in rows])
    ids = np.full((len(rows), counts.max()), 36)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    logits: Floats = model.next_token_logits(ids, cache, counts).data
    return logits


def assert_close(a: Floats, b: Floats, tolerance: float = 1e-12) -> None:
    assert a.shape == b.shape
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


# --- the same logits


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_token_by_token_every_steps_logits_are_those_of_the_text_so_far(dtype: Any, tolerance: float) -> None:
    model, ids = model_of(dtype), ids_of((2, 100), CONFIG)
    cache = model.new_cache(2)
    for t in range(100):
        logits = model.next_token_logits(ids[:, t : t + 1], cache).data
        assert logits.dtype == dtype
        assert_close(logits, logits_of(model, ids[:, : t + 1])[:, -1], tolerance)
    assert cache.lengths.tolist() == [100, 100]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("ends", [[0, 100], [0, 1, 100], [0, 70, 71, 100], [0, 5, 12, 13, 14, 90, 97]])
def test_in_pieces_the_logits_of_all_tokens_are_those_at_once(dtype: Any, tolerance: float, ends: list[int]) -> None:
    model, ids = model_of(dtype), ids_of((2, ends[-1]), CONFIG)
    cache = model.new_cache(2)
    pieces = [logits_of(model, ids[:, start:end], cache) for start, end in pairwise(ends)]
    assert_close(np.concatenate(pieces, axis=1), logits_of(model, ids), tolerance)


@pytest.mark.parametrize("cached", [True, False])
def test_the_next_tokens_logits_are_the_last_ones_of_each_rows_own(cached: bool) -> None:
    model, ids = model_of(), ids_of((3, 9), CONFIG)
    counts = np.array([4, 9, 1])
    logits = model.next_token_logits(ids, model.new_cache(3) if cached else None, counts).data
    assert_close(logits, logits_of(model, ids)[np.arange(3), counts - 1])
    assert_close(model.next_token_logits(ids).data, logits_of(model, ids)[:, -1])


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_rows_of_different_lengths_go_on_as_each_would_alone(dtype: Any, tolerance: float) -> None:
    model, texts = model_of(dtype), list(ids_of((4, 99), CONFIG))
    cache, lengths = model.new_cache(4), np.zeros(4, dtype=int)
    for new in [[5, 60, 1, 23], [1, 1, 1, 1], [3, 1, 9, 2], *[[1, 1, 1, 1]] * 20]:  # a prompt, an answer, more
        rows = [text[start : start + n] for text, start, n in zip(texts, lengths, new, strict=True)]
        lengths = lengths + new
        logits = fed(model, rows, cache)
        assert cache.lengths.tolist() == lengths.tolist()
        for b, n in enumerate(lengths):
            assert_close(logits[b], logits_of(model, texts[b][None, :n])[0, -1], tolerance)


def test_what_pads_a_row_changes_no_bit_of_what_follows() -> None:
    def after(pad: int) -> Floats:
        model, ids = model_of(np.float32), ids_of((2, 8), CONFIG)
        cache = model.new_cache(2)
        ids[0, 3:] = pad
        first = model.next_token_logits(ids, cache, np.array([3, 8])).data
        steps = [model.next_token_logits(np.array([[t], [t]]), cache).data for t in range(10)]
        return np.array([first, *steps])

    np.testing.assert_array_equal(after(1), after(2))


# --- rows chosen


def test_chosen_rows_go_on_as_before_in_their_new_order_and_apart() -> None:
    model, texts = model_of(), list(ids_of((3, 30), CONFIG))
    cache, lengths, rows = model.new_cache(3), [7, 20, 12], [2, 0, 2, 1]
    fed(model, [text[:n] for text, n in zip(texts, lengths, strict=True)], cache)
    chosen = cache.select(rows)
    assert chosen.lengths.tolist() == [12, 7, 12, 20]
    for step in range(3):
        new = [np.array([(5 * step + i) % 37]) for i in range(4)]  # the two copies of row 2 differ from here on
        logits = fed(model, new, chosen)
        for i, b in enumerate(rows):
            so_far = np.append(texts[b][: lengths[b]], [(5 * s + i) % 37 for s in range(step + 1)])
            assert_close(logits[i], logits_of(model, so_far[None])[0, -1])
    assert cache.lengths.tolist() == lengths  # and the old cache goes on by itself
    after = fed(model, [text[n : n + 1] for text, n in zip(texts, lengths, strict=True)], cache)
    for b, n in enumerate(lengths):
        assert_close(after[b], logits_of(model, texts[b][None, : n + 1])[0, -1])


def test_a_row_that_is_not_there_cannot_be_chosen() -> None:
    with pytest.raises(IndexError):
        model_of().new_cache(2).select([0, 2])


# --- what it keeps, and where


def test_it_has_the_models_dtype_and_room_for_the_context_or_for_less() -> None:
    cache = model_of(np.float64).new_cache(5)
    assert (cache.memory.dtype, cache.memory.shape) == (np.float64, (2, 2, 5, 3, 100, 8))  # 2, L, B, H, S, D
    small = model_of(np.float32).new_cache(1, capacity=7)
    assert (small.memory.dtype, small.memory.shape) == (np.float32, (2, 2, 1, 3, 7, 8))


def test_nothing_is_kept_for_backward() -> None:
    model = model_of()
    logits = model.next_token_logits(ids_of((2, 5), CONFIG), model.new_cache(2))
    assert logits.node is None
    assert model.next_token_logits(ids_of((2, 5), CONFIG)).node is None
    assert model(ids_of((2, 5), CONFIG)).node is not None


# --- what is refused


def refused(model: GPTModel, ids: Ints, cache: KVCache) -> str:
    with pytest.raises(InputError) as error:
        logits_of(model, ids, cache)
    return one_line(error)


def test_a_row_that_would_outgrow_the_context_is_refused_and_the_cache_is_as_it_was() -> None:
    model, text = model_of(), ids_of((2, 100), CONFIG)
    cache = model.new_cache(2)
    fed(model, [text[0, :3], text[1, :98]], cache)
    message = "cache: row 1 holds 98 tokens; 3 more exceed the capacity, 100"
    assert refused(model, text[:, :3], cache) == message
    assert cache.lengths.tolist() == [3, 98]
    logits = fed(model, [text[0, 3:5], text[1, 98:]], cache)
    assert_close(logits[1], logits_of(model, text[1:])[0, -1])


def test_more_tokens_than_its_room_are_refused() -> None:
    model = model_of()
    cache = model.new_cache(1, capacity=4)
    assert refused(model, ids_of((1, 5), CONFIG), cache) == "cache: row 0 holds 0 tokens; 5 more exceed the capacity, 4"


def test_another_number_of_rows_is_refused() -> None:
    model = model_of()
    assert refused(model, ids_of((3, 5), CONFIG), model.new_cache(2)) == "cache: it has 2 rows, and 3 were given"


def test_outside_no_grad_and_in_training_mode_it_is_refused() -> None:
    model, ids = model_of(), ids_of((1, 3), CONFIG)
    message = "cache: it supports neither backward nor dropout; use model.eval(), within no_grad()"
    with pytest.raises(InputError) as error:
        model(ids, cache=model.new_cache(1))
    assert one_line(error) == message
    assert refused(model.train(), ids, model.new_cache(1)) == message


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0,), "cache: 0 rows of 100; choose 1 or more rows of 1 .. 100"),
        ((2, 0), "cache: 2 rows of 0; choose 1 or more rows of 1 .. 100"),
        ((2, 101), "cache: 2 rows of 101; choose 1 or more rows of 1 .. 100"),
    ],
)
def test_sizes_out_of_range_are_refused(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        model_of().new_cache(*sizes)
    assert one_line(error) == message
