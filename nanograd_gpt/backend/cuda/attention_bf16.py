"""Causal attention in bf16 by tensor cores."""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

import cupy

from ..contract import Array, Keep
from .dropout import causal_bits
from .launch import BF16, Source

SOURCES = {  # by D, the largest head size
    64: Source(
        "attention_bf16.cu",
        "attention_bf16_forward<64,false>",
        "attention_bf16_forward<64,true>",
        "attention_bf16_backward_q<64,false>",
        "attention_bf16_backward_q<64,true>",
        "attention_bf16_backward_kv<64,false>",
        "attention_bf16_backward_kv<64,true>",
    ),
    128: Source(
        "attention_bf16.cu",
        "attention_bf16_forward<128,false>",
        "attention_bf16_forward<128,true>",
        "attention_bf16_backward_q<128,false>",
        "attention_bf16_backward_q<128,true>",
        "attention_bf16_backward_kv<128,false>",
        "attention_bf16_backward_kv<128,true>",
    ),
}
THREADS, TILE, WORD = 128, 64, 32


class Rows(NamedTuple):
    """Rows in a block's shared memory: of its own tile, and of each tile that passes by, of which there are four."""

    own: int
    passing: int
    words: int = 0  # of 4 bytes, for each row that passes by in two of the four

    def shared(self, D: int) -> int:
        """Bytes of shared memory."""
        return (self.own + 4 * self.passing) * 2 * D + 2 * self.passing * 4 * self.words


FORWARD = {64: Rows(128, TILE), 128: Rows(64, TILE)}
BACKWARD_Q = Rows(TILE, TILE)
BACKWARD_KV = Rows(2 * TILE, 32, 2 + TILE // WORD)


def causal_attention(qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> tuple[Array, Array]:
    """qkv (B, T, 3C) bf16, keep (B, H, T, T)  ->  context (B, T, C) bf16, log_sum_exp (B, H, T, 1) float32

    Raises ValueError unless the head size is a multiple of 8 up to 128.
    """
    B, T, C3 = qkv.shape
    D, numbers = _size(qkv, n_heads), _numbers(qkv, n_heads, keep, rate)
    context, lse = cupy.empty((B, T, C3 // 3), dtype=BF16), cupy.empty((B, n_heads, T, 1), dtype="f")
    rows, kernel = FORWARD[D], f"attention_bf16_forward<{D},{_dropped(keep)}>"
    grid = B * n_heads, -(-T // rows.own)
    arrays = qkv, _bits(keep), context, lse
    SOURCES[D].launch(kernel, grid, (THREADS,), *arrays, *numbers, shared=rows.shared(D))
    return context, lse


def causal_attention_backward(
    dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Keep | None, rate: float
) -> Array:
    """dy (B, T, C) bf16  ->  dqkv (B, T, 3C) bf16"""
    B, T, _ = qkv.shape
    D, numbers, bits = _size(qkv, n_heads), _numbers(qkv, n_heads, keep, rate), _bits(keep)
    dqkv, delta = cupy.empty(qkv.shape, dtype=BF16), cupy.empty(lse.shape, dtype="f")
    grid, arguments = (B * n_heads, -(-T // TILE)), f"<{D},{_dropped(keep)}>"
    for kernel, rows, arrays in (
        ("attention_bf16_backward_q", BACKWARD_Q, (qkv, context, dy, lse, bits, delta, dqkv)),
        ("attention_bf16_backward_kv", BACKWARD_KV, (qkv, dy, lse, delta, bits, dqkv)),
    ):
        SOURCES[D].launch(kernel + arguments, grid, (THREADS,), *arrays, *numbers, shared=rows.shared(D))
    return dqkv


def _size(qkv: Array, n_heads: int) -> int:
    """D of the kernels for a head size."""
    width = qkv.shape[-1] // 3 // n_heads
    if not 0 < width <= max(SOURCES) or width % 8:
        raise ValueError(f"the head size is {width}, expected a multiple of 8 up to {max(SOURCES)} in bf16")
    return next(D for D in SOURCES if width <= D)


def _numbers(qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> tuple[Any, ...]:
    """The kernels' last arguments: T, H, the head size, its scale, and 1 / (1 - rate)."""
    width = qkv.shape[-1] // 3 // n_heads
    return qkv.shape[1], n_heads, width, 1 / sqrt(width), 1.0 if keep is None else 1 / (1 - rate)


def _bits(keep: Keep | None) -> Array | None:
    return None if keep is None else causal_bits(keep)


def _dropped(keep: Keep | None) -> str:
    return "false" if keep is None else "true"
