"""Attention over a cache: one launch for the next tokens; a prompt is attended to as in training."""

from __future__ import annotations

from math import sqrt

import cupy

from ..contract import Array, Ints
from ..plain import attention as plain
from .attention import causal_attention
from .cast import to_float
from .ids import as_ids
from .launch import Source, blocks_for, fits
from .tickets import tickets

SOURCE = Source(
    "cached_attention.cu",
    "cached_attention<float, 32>",
    "cached_attention<float, 64>",
    "cached_attention<float, 128>",
    "fill_cache<float>",
)
HEAD_SIZES = 32, 64, 128  # that the kernel is compiled for
THREADS, SPLIT, PER_THREAD = 128, 64, 4  # cached_attention.cu's
FILL_THREADS = 256


def cached_attention(qkv: Array, keys: Array, values: Array, slots: Ints, stop: int) -> Array:
    given, qkv, (B, T, C3), (_, H, S, width) = qkv, to_float(qkv), qkv.shape, keys.shape
    D = next((D for D in HEAD_SIZES if 0 < width <= D), None)
    if D is None or not fits(qkv, keys, values):
        return plain.cached_attention(qkv, keys, values, slots, stop)
    if stop == T > 1:  # a prompt: nothing was in the cache
        size = qkv.size // 3
        grid = blocks_for(size, FILL_THREADS * (1 if width % PER_THREAD else PER_THREAD))
        SOURCE.launch("fill_cache<float>", grid, (FILL_THREADS,), qkv, keys, values, T, H, S, width, size)
        return causal_attention(given, H, None, 0.0)[0]
    context, queries, splits = cupy.empty((B, T, C3 // 3), dtype="f"), B * H * T, -(-stop // SPLIT)
    scratch = (None, None) if splits == 1 else _scratch(queries, splits, D)
    arrays, numbers = (qkv, keys, values, as_ids(slots), context), (T, H, S, width, 1 / sqrt(width))
    SOURCE.launch(f"cached_attention<float, {D}>", (queries, splits), (THREADS,), *arrays, *scratch, *numbers)
    return context


def _scratch(queries: int, splits: int, D: int) -> tuple[Array, Array]:
    """Memory for what the blocks find, and a counter for each query: their number is rounded up, for they are kept."""
    return cupy.empty((queries, splits, D + 4), dtype="f"), tickets(1 << (queries - 1).bit_length())
