"""LayerNorm in one launch each way, the parameters' gradients and the residual's included."""

from __future__ import annotations

import cupy

from ..contract import Array, GradOut
from ..plain import norm as plain
from .cast import to_float
from .launch import Source, blocks_for, fits, fits_rounded, type_of
from .operands import product_kind, result_dtype
from .tickets import tickets

# Values of a row that a thread loads at once, how often it does, and how many threads a row has.
LAYOUTS = ((4, 2, 32), (4, 6, 32), (4, 8, 32), (4, 4, 256), (1, 2, 32), (1, 8, 256))
WAYS = "layer_norm", "layer_norm_backward"
SOURCES = {  # by the type of y and dy
    "float": Source("norm.cu", *(f"{way}<float, {n}, {m}, {threads}>" for way in WAYS for n, m, threads in LAYOUTS)),
    "bf16": Source("norm.cu", *(f"{way}<bf16, {n}, {m}, {threads}>" for way in WAYS for n, m, threads in LAYOUTS)),
}
THREADS, GROUP = 256, 16  # norm.cu's
MOST_BLOCKS = 264  # of backward: two for each multiprocessor of an H100, all at work at once


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    x, layout = to_float(x), _layout(x)
    if layout is None or not fits(x, scale, shift):
        return plain.layer_norm(x, scale, shift, eps)
    mean, rstd = (cupy.empty((*x.shape[:-1], 1), dtype="f") for _ in range(2))
    y = cupy.empty(x.shape, dtype=result_dtype(product_kind(mean.size)))
    (n, loads, row_threads), C, T = layout, x.shape[-1], type_of(y)
    kernel, grid = f"layer_norm<{T}, {n}, {loads}, {row_threads}>", blocks_for(mean.size, THREADS // row_threads)
    SOURCES[T].launch(kernel, grid, (THREADS,), x, scale, shift, y, mean, rstd, eps, mean.size, C)
    return y, mean, rstd


def layer_norm_backward(
    dy: Array,
    x: Array,
    scale: Array,
    mean: Array,
    rstd: Array,
    dscale: GradOut | None,
    dshift: GradOut | None,
    residual: Array | None,
) -> Array:
    x, layout, outs = to_float(x), _layout(x), [(None, False) if out is None else out for out in (dscale, dshift)]
    if layout is None or not (fits_rounded(dy) and fits(x, scale, mean, rstd, residual, *(array for array, _ in outs))):
        return plain.layer_norm_backward(to_float(dy), x, scale, mean, rstd, dscale, dshift, residual)
    dx, (n, loads, row_threads), C, T = cupy.empty_like(x), layout, x.shape[-1], type_of(dy)
    grid = blocks_for(mean.size, THREADS // row_threads, MOST_BLOCKS)
    width = n * loads * row_threads
    partial = None if dscale is dshift is None else cupy.empty((*grid, 2, width), dtype="f")
    counters = tickets(1 + blocks_for(MOST_BLOCKS, GROUP)[0])
    kernel, arrays = f"layer_norm_backward<{T}, {n}, {loads}, {row_threads}>", (dy, x, scale, mean, rstd, residual)
    SOURCES[T].launch(kernel, grid, (THREADS,), *arrays, dx, *outs[0], *outs[1], partial, counters, mean.size, C)
    return dx


def _layout(x: Array) -> tuple[int, int, int] | None:
    """The first layout that fits a row of x (..., C); None for rows that are too long, and for an x of no elements."""
    C = x.shape[-1]
    for n, loads, row_threads in LAYOUTS:
        if x.size and C % n == 0 and n * loads * row_threads >= C:
            return n, loads, row_threads
    return None
