"""Embedding lookup, and its gradient by sorted ids: the same bits in every run.

CuPy's argsort would wait for the device, so the ids are sorted by kernels here.  An id out of range gives nan, and its
gradient is left out: to name it, the host would have to wait.
"""

from __future__ import annotations

import cupy

from ..contract import Array, GradOut, Ints
from ..plain import embedding as plain
from .ids import as_ids
from .launch import Source, blocks_for, fits

SOURCE = Source("embedding.cu", "embedding<float>", "sort_tiles", "merge_tiles", "sum_pieces<float>", "sum_runs")
WARP, THREADS, PER_THREAD = 32, 256, 4
TILE, WINDOW = 2048, 32  # as in embedding.cu


def embedding(weight: Array, ids: Ints) -> Array:
    (V, C), N = weight.shape, ids.size
    if not fits(weight) or not weight.size:
        return plain.embedding(weight, ids)
    y = cupy.empty((*ids.shape, C), dtype=weight.dtype)
    SOURCE.launch("embedding<float>", blocks_for(N, THREADS // WARP), (THREADS,), weight, as_ids(ids), y, N, V, C)
    return y


def embedding_backward(dy: Array, ids: Ints, dweight: GradOut) -> None:
    dy = cupy.ascontiguousarray(dy)  # one that was broadcast, too, is summed in order
    if not fits(dy, dweight.array) or not dy.size:
        plain.embedding_backward(dy, ids, dweight)
        return
    if not dweight.accumulate:
        dweight.array.fill(0)
    N, (V, C) = ids.size, dweight.array.shape
    order, windows = sorted_places(as_ids(ids), N, V), -(-N // WINDOW)
    parts = cupy.empty((windows, 2, C), dtype="f")
    threads = min(THREADS, WARP * -(-C // (WARP * PER_THREAD)))
    grid = windows, -(-C // (threads * PER_THREAD))
    SOURCE.launch("sum_pieces<float>", grid, (threads,), dy, order, dweight.array, parts, N, V, C)
    if windows > 1:  # else every run ends in its window
        SOURCE.launch("sum_runs", grid, (threads,), order, parts, dweight.array, N, V, C)


def sorted_places(ids: Ints, N: int, V: int) -> Ints:
    """The places (N,) in order of their ids, those of an id from the first to the last, as id << 32 | place."""
    size = min(TILE, max(2 * WARP, 1 << (N - 1).bit_length()))
    tiles = cupy.empty(N, dtype=cupy.uint64)
    SOURCE.launch("sort_tiles", blocks_for(N, size), (size // 2,), ids, tiles, N, V, size)
    if size >= N:
        return tiles
    order = cupy.empty_like(tiles)
    SOURCE.launch("merge_tiles", blocks_for(N, THREADS), (THREADS,), tiles, order, N)
    return order
