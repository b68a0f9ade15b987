"""Causal attention without a T x T array, in one launch forward and two backward; in bf16 if Q, K and V are of it."""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import Any, NamedTuple

import cupy

from ..contract import Array, Keep
from ..plain import attention as plain
from . import attention_bf16 as bf16
from .cast import to_bf16, to_float
from .dropout import as_bools, causal_bits
from .launch import BF16, Source, fits

SOURCES = {  # by D, the largest head size
    32: Source("attention.cu", "attention_forward<32>", "attention_backward_q<32,4>", "attention_backward_kv<32,4>"),
    64: Source("attention.cu", "attention_forward<64>", "attention_backward_q<64,4>", "attention_backward_kv<64,4>"),
    128: Source(
        "attention.cu", "attention_forward<128>", "attention_backward_q<128,2>", "attention_backward_kv<128,2>"
    ),
}
FORWARD_WARPS = 4
BACKWARD_WARPS = {32: 4, 64: 4, 128: 2}
WARP, ROWS_OF_WARP, COLS = 32, 16, 32
PADDING, WEIGHT_PITCH = 4, COLS + 8  # floats


class Call(NamedTuple):
    """The launches for one array qkv: D, and the kernels' last arguments."""

    D: int
    B: int
    T: int
    n_heads: int
    width: int  # the head size, at most D
    survive: float

    def launch(self, kernel: str, warps: int, resident: int, *arguments: Any) -> None:
        """Launch a kernel whose blocks of `warps` keep a tile each of `resident` arrays in shared memory."""
        rows = warps * ROWS_OF_WARP
        grid, shared = (self.B * self.n_heads, -(-self.T // rows)), shared_bytes(self.D, warps, resident)
        numbers = self.T, self.n_heads, self.width, 1 / sqrt(self.width), self.survive
        SOURCES[self.D].launch(kernel, grid, (warps * WARP,), *arguments, *numbers, shared=shared)


def causal_attention(qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> tuple[Array, Array]:
    if _in_bf16(qkv, n_heads):
        return bf16.causal_attention(to_bf16(qkv), n_heads, keep, rate)
    qkv = to_float(qkv)
    call = _call(qkv, n_heads, keep, rate)
    if call is None:
        return plain.causal_attention(qkv, n_heads, None if keep is None else as_bools(keep), rate)
    B, T, C3 = qkv.shape
    context, lse = cupy.empty((B, T, C3 // 3), dtype="f"), cupy.empty((B, n_heads, T, 1), dtype="f")
    call.launch(f"attention_forward<{call.D}>", FORWARD_WARPS, 1, qkv, _bits(keep), context, lse)
    return context, lse


def causal_attention_backward(
    dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Keep | None, rate: float
) -> Array:
    if _in_bf16(qkv, n_heads):
        return bf16.causal_attention_backward(to_bf16(dy), to_bf16(qkv), context, lse, n_heads, keep, rate)
    dy, qkv = to_float(dy), to_float(qkv)
    call = _call(qkv, n_heads, keep, rate)
    if call is None or not fits(dy, context, lse):
        mask = None if keep is None else as_bools(keep)
        return plain.causal_attention_backward(dy, qkv, context, lse, n_heads, mask, rate)
    bits, delta, dqkv = _bits(keep), cupy.empty(lse.shape, dtype="f"), cupy.empty(qkv.shape, dtype="f")
    warps = BACKWARD_WARPS[call.D]
    call.launch(f"attention_backward_q<{call.D},{warps}>", warps, 2, qkv, context, dy, lse, bits, delta, dqkv)
    call.launch(f"attention_backward_kv<{call.D},{warps}>", warps, 2, qkv, dy, lse, delta, bits, dqkv)
    return dqkv


def shared_bytes(D: int, warps: int, resident: int) -> int:
    """Shared memory of a block: its resident tiles, two that pass by, the weights, and for dK and dV a few words."""
    rows = warps * ROWS_OF_WARP
    words = COLS * (2 + rows // COLS) if resident > 1 else 0
    return 4 * ((resident * rows + 2 * COLS) * (D + PADDING) + rows * WEIGHT_PITCH + words)


@cache
def most_shared_bytes() -> int:
    """The most shared memory that a block of this GPU's may have."""
    most: int = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
    return most


def _in_bf16(qkv: Array, n_heads: int) -> bool:
    """Whether the kernels on tensor cores take qkv."""
    width = qkv.shape[-1] // 3 // n_heads
    return qkv.dtype == BF16 and qkv.size > 0 and width <= max(bf16.SOURCES) and width % 8 == 0


def _call(qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> Call | None:
    """The launches for these arguments; None where the kernels do not take them."""
    B, T, C3 = qkv.shape
    width = C3 // 3 // n_heads
    D = next((D for D in SOURCES if width <= D), None)
    if not (D and width and fits(qkv)):
        return None
    if max(shared_bytes(D, FORWARD_WARPS, 1), shared_bytes(D, BACKWARD_WARPS[D], 2)) > most_shared_bytes():
        return None
    return Call(D, B, T, n_heads, width, 1.0 if keep is None else 1 / (1 - rate))


def _bits(keep: Keep | None) -> Array | None:
    return None if keep is None else causal_bits(keep)
