"""Attention over a cache equals causal attention, with the tokens passed in chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.plain import kernels as plain

Floats = npt.NDArray[Any]
B, T, H, D = 2, 150, 3, 4  # T is more than two blocks of queries
ROOM = 160


def new_qkv(dtype: Any = np.float64) -> Floats:
    qkv: Floats = np.random.default_rng(0).standard_normal((B, T, 3 * H * D)).astype(dtype)
    return qkv


def in_pieces(qkv: Floats, ends: list[int], memory: Floats | None = None) -> Floats:
    """The contexts (B, T, C) of tokens passed in chunks."""
    rows = len(qkv)
    keys, values = np.zeros((2, rows, H, ROOM, D), qkv.dtype) if memory is None else memory
    contexts = []
    for start, end in pairwise(ends):
        slots = np.broadcast_to(np.arange(start, end), (rows, end - start))
        contexts.append(cpu.cached_attention(qkv[:, start:end], keys, values, slots, end))
    return np.concatenate(contexts, axis=1)


@pytest.mark.parametrize("rows", [slice(1), slice(None)], ids=["one text", "two"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14), (np.complex128, 1e-14)])
@pytest.mark.parametrize("ends", [[0, T], [0, 10, T], [0, 63, 64, 65, 129, T], list(range(T + 1))], ids=len)
def test_any_pieces_give_causal_attention(ends: list[int], dtype: Any, tolerance: float, rows: slice) -> None:
    qkv = new_qkv(dtype)[rows]
    whole, _ = cpu.causal_attention(qkv, H, None, 0.0)
    context = in_pieces(qkv, ends)
    assert context.dtype == dtype
    assert np.linalg.norm(context - whole) <= tolerance * np.linalg.norm(whole)


def test_rows_write_into_their_own_slots_and_see_up_to_them() -> None:
    qkv = new_qkv()
    whole, _ = cpu.causal_attention(qkv, H, None, 0.0)
    keys, values = np.zeros((2, B, H, ROOM, D))
    cpu.cached_attention(qkv[:, :100], keys, values, np.tile(np.arange(100), (B, 1)), 100)
    starts = np.array([40, 100])  # the first row goes on from 40: what was written after it is written over
    new = np.stack([qkv[b, start : start + 3] for b, start in enumerate(starts)])
    context = cpu.cached_attention(new, keys, values, starts[:, None] + np.arange(3), 103)
    for b, start in enumerate(starts):
        np.testing.assert_allclose(context[b], whole[b, start : start + 3], rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_token_is_written_into_its_slot_wherever_stop_is(rows: int) -> None:
    qkv = new_qkv()[:rows]
    whole, _ = cpu.causal_attention(qkv, H, None, 0.0)
    keys, values = memory = np.zeros((2, rows, H, ROOM, D))
    in_pieces(qkv, [0, 20], memory)
    for slot in (20, 21):
        context = cpu.cached_attention(qkv[:, slot : slot + 1], keys, values, np.full((rows, 1), slot), ROOM)
        np.testing.assert_allclose(context[:, 0], whole[:, slot], rtol=1e-12)
    assert not memory[..., 22:, :].any()


@pytest.mark.parametrize(("rows", "tokens"), [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)])
def test_no_tokens_give_no_contexts(rows: int, tokens: int) -> None:
    qkv, (keys, values) = np.zeros((rows, tokens, 3 * H * D)), np.zeros((2, rows, H, ROOM, D))
    for kernels in (cpu, plain):
        context = kernels.cached_attention(qkv, keys, values, np.zeros((rows, tokens), int), 5)
        assert context.shape == (rows, tokens, H * D)


def test_nothing_from_stop_on_is_looked_at_or_changed() -> None:
    memory = np.full((2, B, H, ROOM, D), np.nan)
    memory[..., :T, :] = 0
    assert np.isfinite(in_pieces(new_qkv(), [0, 20, T], memory)).all()
    assert np.isnan(memory[..., T:, :]).all()
    assert memory[..., :T, :].all()


@pytest.mark.parametrize("changed", [1, 63, 64, 100, 149])
@pytest.mark.parametrize("ends", [[0, T], [0, 30, T]], ids=len)
def test_a_later_token_changes_no_bit_of_an_earlier_result(changed: int, ends: list[int]) -> None:
    qkv = new_qkv(np.float32)
    later = qkv.copy()
    later[:, changed:] *= -100
    before, after = in_pieces(qkv, ends), in_pieces(later, ends)
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(axis=-1).all()
