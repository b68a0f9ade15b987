"""Between float32 and bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cupy

from ..contract import Array
from .launch import BF16, Source, blocks_for, lying_well

SOURCE = Source("cast.cu", "to_bf16", "to_float")
THREADS, PER_THREAD = 256, 8


def to_bf16(x: Array) -> Array:
    """x (...) float32  ->  (...) bf16, contiguous, rounded to the nearest, ties to even; x itself if it is that"""
    x = lying_well(x)
    return x if x.dtype == BF16 else write_bf16(x, cupy.empty(x.shape, dtype=BF16))


def write_bf16(x: Array, out: Array) -> Array:
    """x (...) float32  ->  out (...) bf16, both contiguous; returns out"""
    SOURCE.launch("to_bf16", blocks_for(x.size, THREADS * PER_THREAD), (THREADS,), x, out, x.size)
    return out


def to_float(x: Array) -> Array:
    """x (...) bf16  ->  (...) float32; x itself if it is of another dtype"""
    if x.dtype != BF16:
        return x
    x, y = lying_well(x), cupy.empty(x.shape, dtype="f")
    SOURCE.launch("to_float", blocks_for(x.size, THREADS * PER_THREAD), (THREADS,), x, y, x.size)
    return y


def without_bfloat16(arrays: Sequence[Any]) -> Sequence[Any]:
    return [to_float(a) if getattr(a, "dtype", None) == BF16 else a for a in arrays]
