"""Linear layers: large products are tiled over our threads, with an epilogue on each finished tile.

Small and skinny products go to BLAS, whose results may depend on its number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from ..plain.packed import as_contiguous_view, joined_grad_out
from .blocks import blocks
from .threads import blas_threads_controllable, n_threads, parallel_for, with_blas_threads, with_single_blas_thread

Tile: TypeAlias = tuple[slice, slice]  # rows and columns of a matrix

SKINNY_ROWS = 8  # fewer rows: memory-bound
MIN_VECTOR_MATRIX = 1 << 24  # elements; from here on, vecdot on our threads beats BLAS's gemv for one row
# The shortest side of a product that our threads tile.  A model's products mostly share it (channels or tokens), so
# that all go to our threads or all to BLAS: mixing them oversubscribes the cores, for BLAS threads spin after a call.
MIN_PARALLEL_DIM = 256
SLICE_MULTIPLE = 64  # rows or columns: no remainder in BLAS's inner loops
ALL = slice(None)


def gemm(a: Array, b: Array, out: Array, epilogue: Callable[[Tile], object] | None = None) -> None:
    """out (M, N) = a (M, K) @ b (K, N); `epilogue` is called with each finished tile of out."""
    (M, K), N = a.shape, b.shape[1]
    if M < SKINNY_ROWS:
        _skinny_gemm(a, b, out)
        if epilogue is not None:
            epilogue((ALL, ALL))
        return

    def multiply(tile: Tile) -> None:
        np.matmul(a[tile[0]], b[:, tile[1]], out=out[tile])
        if epilogue is not None:
            epilogue(tile)

    if min(M, N, K) < MIN_PARALLEL_DIM or not blas_threads_controllable():
        with_blas_threads(lambda: np.matmul(a, b, out=out))
        if epilogue is not None:
            epilogue((ALL, ALL))
    elif N >= M:
        parallel_for([(ALL, columns) for columns in _slice_per_thread(N)], multiply)
    else:
        parallel_for([(some_rows, ALL) for some_rows in _slice_per_thread(M)], multiply)


def _skinny_gemm(a: Array, b: Array, out: Array) -> None:
    """A product of a few rows on BLAS's threads, as in generation, where many follow each other closely.

    For one row and a large matrix, BLAS's gemv does not reach memory bandwidth; a dot product per column does.
    """
    M, (K, N) = len(a), b.shape
    if M == 1 and N * K >= MIN_VECTOR_MATRIX and b.strides[0] == b.itemsize and b.dtype.kind == "f":
        parallel_for(_slice_per_thread(N), lambda cols: np.vecdot(b[:, cols].T, a[0], out=out[0, cols]))
    elif M == 1:
        with_blas_threads(lambda: np.matmul(a, b, out=out))
    else:  # BLAS reads the matrix faster transposed
        out[...] = with_blas_threads(lambda: np.matmul(b.T, a.T)).T


def _slice_per_thread(n: int) -> list[slice]:
    """Slices that cover 0 .. n, at most one per thread, multiples of SLICE_MULTIPLE but for the last."""
    multiples = -(-n // SLICE_MULTIPLE)
    return blocks(n, -(-multiples // n_threads()) * SLICE_MULTIPLE)


def matrix_product(x: Array, y: Array) -> Array:
    return with_blas_threads(lambda: x @ y)


def matmul(x: Array, matrix: Array, epilogue: Callable[[Tile], object] | None = None) -> Array:
    """x (..., I), matrix (I, O)  ->  (..., O)"""
    y = np.empty((*x.shape[:-1], matrix.shape[1]), dtype=np.result_type(x.dtype, matrix.dtype))
    gemm(rows(x), matrix, rows(y), epilogue)
    return y


def gemm_into(grad_out: GradOut, a: Array, b: Array) -> None:
    """Write or add a @ b; written straight into grad_out's memory."""
    if grad_out.accumulate:
        product = np.empty(grad_out.array.shape, dtype=np.result_type(a.dtype, b.dtype))
        gemm(a, b, product)
        grad_out.write(product)
    else:
        gemm(a, b, grad_out.array)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    y = np.empty((*x.shape[:-1], len(weight)), dtype=np.result_type(x.dtype, weight.dtype))
    linear_into(y, x, weight, bias)
    return y


def linear_into(y: Array, x: Array, weight: Array, bias: Array | None) -> None:
    """Write x W^T + b into y (..., O), adding the bias to each tile while it is in the cache."""
    flat = rows(y)
    if bias is None:
        gemm(rows(x), weight.T, flat)
        return

    def add_bias(tile: Tile) -> None:
        flat[tile] += bias[tile[1]]

    gemm(rows(x), weight.T, flat, add_bias)


def linear_backward(
    dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    if dweight is not None:
        gemm_into(dweight, rows(dy).T, rows(x))
    if dbias is not None:
        dbias.write(column_sums(rows(dy)))
    return matmul(dy, weight) if want_dx else None


def column_sums(matrix: Array) -> Array:
    """(N, O)  ->  (O,)"""
    ones = np.ones(len(matrix), dtype=matrix.dtype)
    return with_single_blas_thread(lambda: ones @ matrix)  # with more threads, the bits would depend on their number


def row_sums(matrix: Array) -> Array:
    """(N, O)  ->  (N, 1)"""
    ones = np.ones((matrix.shape[1], 1), dtype=matrix.dtype)
    return with_single_blas_thread(lambda: matrix @ ones)


def packed_linear(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
    joined, width = as_contiguous_view(weights), len(weights[0])
    if joined is not None and all(bias is None for bias in biases):
        return linear(x, joined, None)
    y = np.empty((*x.shape[:-1], len(weights) * width), dtype=np.result_type(x.dtype, weights[0].dtype))
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        linear_into(y[..., k * width : (k + 1) * width], x, weight, bias)
    return y


def packed_linear_backward(
    dy: Array,
    x: Array,
    weights: Sequence[Array],
    dweights: Sequence[GradOut | None],
    dbiases: Sequence[GradOut | None],
    want_dx: bool,
) -> Array | None:
    joined, width = as_contiguous_view(weights), len(weights[0])
    dweight = joined_grad_out(dweights)
    dx = matmul(dy, joined) if want_dx and joined is not None else None
    if dweight is not None:
        gemm_into(dweight, rows(dy).T, rows(x))
    for k, weight in enumerate(weights):
        dy_k = dy[..., k * width : (k + 1) * width]
        dweight_k = None if dweight else dweights[k]
        dx_k = linear_backward(dy_k, x, weight, dweight_k, dbiases[k], want_dx and joined is None)
        if dx_k is not None:
            dx = dx_k if dx is None else np.add(dx, dx_k, out=dx)
    return dx
