"""Between float32 and bfloat16, whose arrays are uint16 here, their bits: CuPy has no such type of its own."""

from __future__ import annotations

import cupy

from ..contract import Array
from .launch import Source, blocks_for

SOURCE = Source("cast.cu", "to_bf16", "to_float")
THREADS, PER_THREAD = 256, 8


def to_bf16(x: Array, out: Array | None = None) -> Array:
    """x (...) float32, contiguous  ->  (...) bf16, rounded to the nearest, ties to even; written to `out` if given"""
    y = cupy.empty(x.shape, dtype="H") if out is None else out
    SOURCE.launch("to_bf16", blocks_for(x.size, THREADS * PER_THREAD), (THREADS,), x, y, x.size)
    return y


def to_float(x: Array) -> Array:
    """x (...) bf16, contiguous  ->  (...) float32"""
    y = cupy.empty(x.shape, dtype="f")
    SOURCE.launch("to_float", blocks_for(x.size, THREADS * PER_THREAD), (THREADS,), x, y, x.size)
    return y
