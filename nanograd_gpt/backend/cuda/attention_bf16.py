"""Causal attention in bf16 by tensor cores.  Arrays of bf16 are uint16 here, their bits: CuPy has no such type."""

from __future__ import annotations

from math import sqrt
from typing import Any

import cupy

from ..contract import Array, Keep
from .dropout import causal_bits
from .launch import Source

SOURCE = Source(
    "attention_bf16.cu",
    "attention_bf16_forward<64,false>",
    "attention_bf16_forward<64,true>",
    "attention_bf16_backward_q<64,false>",
    "attention_bf16_backward_q<64,true>",
    "attention_bf16_backward_kv<64,false>",
    "attention_bf16_backward_kv<64,true>",
)
D, THREADS = 64, 128
FORWARD_ROWS, TILE = 128, 64
ROW = 2 * D  # bytes of a tile's row
FORWARD_SHARED = (FORWARD_ROWS + 4 * TILE) * ROW
BACKWARD_Q_SHARED = 5 * TILE * ROW
BACKWARD_KV_SHARED = BACKWARD_Q_SHARED + 2 * TILE * 4 * (2 + TILE // 32)


def causal_attention(qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> tuple[Array, Array]:
    """qkv (B, T, 3C) bf16, keep (B, H, T, T)  ->  context (B, T, C) bf16, log_sum_exp (B, H, T, 1) float32

    Raises ValueError unless the head size is a multiple of 8 up to 64.
    """
    B, T, C3 = qkv.shape
    context, lse = cupy.empty((B, T, C3 // 3), dtype="H"), cupy.empty((B, n_heads, T, 1), dtype="f")
    bits = None if keep is None else causal_bits(keep)
    _launch("forward", FORWARD_ROWS, FORWARD_SHARED, (qkv, bits, context, lse), qkv, n_heads, keep, rate)
    return context, lse


def causal_attention_backward(
    dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Keep | None, rate: float
) -> Array:
    """dy (B, T, C) bf16  ->  dqkv (B, T, 3C) bf16"""
    dqkv, delta = cupy.empty(qkv.shape, dtype="H"), cupy.empty(lse.shape, dtype="f")
    bits, rest = None if keep is None else causal_bits(keep), (qkv, n_heads, keep, rate)
    _launch("backward_q", TILE, BACKWARD_Q_SHARED, (qkv, context, dy, lse, bits, delta, dqkv), *rest)
    _launch("backward_kv", TILE, BACKWARD_KV_SHARED, (qkv, dy, lse, delta, bits, dqkv), *rest)
    return dqkv


def _launch(
    kernel: str, rows: int, shared: int, arrays: tuple[Any, ...], qkv: Array, n_heads: int, keep: Any, rate: float
) -> None:
    B, T, C3 = qkv.shape
    width = C3 // 3 // n_heads
    if not 0 < width <= D or width % 8:
        raise ValueError(f"the head size is {width}, expected a multiple of 8 up to {D} in bf16")
    name = f"attention_bf16_{kernel}<{D},{'false' if keep is None else 'true'}>"
    numbers = T, n_heads, width, 1 / sqrt(width), 1.0 if keep is None else 1 / (1 - rate)
    SOURCE.launch(name, (B * n_heads, -(-T // rows)), (THREADS,), *arrays, *numbers, shared=shared)
