"""Linear layers: a large product is cut among our threads, and what follows it is done where a piece is ready.

Small ones, and those of a few rows, are the matrix library's; its results may depend on how many threads it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from .blocks import blocks
from .threads import blas_obeys, n_threads, parallel_for, with_blas_threads, with_single_blas_thread

Tile: TypeAlias = tuple[slice, slice]  # of a matrix: some of its rows, some of its columns

SKINNY_ROWS = 8  # so few, and a product does little but read its matrix
MIN_VECTOR_MATRIX = 1 << 24  # elements of a matrix: for one row, our threads read it sooner than the library's
# The shortest side of a product that is cut.  A model's products share it, its channels or its tokens, so that all of
# them go to our threads or all to the library's: a few by the other kind, and each waits for the other.
MIN_PARALLEL_DIM = 256
GRAIN = 64  # rows or columns: the library's inner loops have no rest to do
ALL = slice(None)


def gemm(a: Array, b: Array, out: Array, epilogue: Callable[[Tile], object] | None = None) -> None:
    """out (M, N) = a (M, K) @ b (K, N); `epilogue` is called with each piece of out once it is there."""
    (M, K), N = a.shape, b.shape[1]
    if M < SKINNY_ROWS:
        _read(a, b, out)
        if epilogue is not None:
            epilogue((ALL, ALL))
        return

    def multiply(tile: Tile) -> None:
        np.matmul(a[tile[0]], b[:, tile[1]], out=out[tile])
        if epilogue is not None:
            epilogue(tile)

    if min(M, N, K) < MIN_PARALLEL_DIM or not blas_obeys():
        with_blas_threads(lambda: np.matmul(a, b, out=out))
        if epilogue is not None:
            epilogue((ALL, ALL))
    elif N >= M:
        parallel_for([(ALL, part) for part in _cut(N)], multiply)
    else:
        parallel_for([(part, ALL) for part in _cut(M)], multiply)


def _read(a: Array, b: Array, out: Array) -> None:
    """The product of a few rows, by the library's threads: a token is written by many such, one soon after the other.

    For one row, the library's product with a vector lags behind the memory; a dot product for each column does not.
    """
    M, (K, N) = len(a), b.shape
    if M == 1 and N * K >= MIN_VECTOR_MATRIX and b.strides[0] == b.itemsize and b.dtype.kind == "f":
        parallel_for(_cut(N), lambda part: np.vecdot(b[:, part].T, a[0], out=out[0, part]))
    elif M == 1:
        with_blas_threads(lambda: np.matmul(a, b, out=out))
    else:  # the library reads its matrix faster the other way round
        out[...] = with_blas_threads(lambda: np.matmul(b.T, a.T)).T


def _cut(n: int) -> list[slice]:
    """0 .. n in one slice for each thread."""
    grains = -(-n // GRAIN)
    return blocks(n, -(-grains // n_threads()) * GRAIN)


def matrix_product(x: Array, y: Array) -> Array:
    return with_blas_threads(lambda: x @ y)


def matmul(x: Array, matrix: Array, epilogue: Callable[[Tile], object] | None = None) -> Array:
    """x (..., I), matrix (I, O)  ->  (..., O)"""
    y = np.empty((*x.shape[:-1], matrix.shape[1]), dtype=np.result_type(x.dtype, matrix.dtype))
    gemm(rows(x), matrix, rows(y), epilogue)
    return y


def gemm_into(grad_out: GradOut, a: Array, b: Array) -> None:
    """Deliver a @ b, straight into the grad_out's memory where nothing is there yet."""
    if grad_out.accumulate:
        made = np.empty(grad_out.array.shape, dtype=np.result_type(a.dtype, b.dtype))
        gemm(a, b, made)
        grad_out.write(made)
    else:
        gemm(a, b, grad_out.array)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    y = np.empty((*x.shape[:-1], len(weight)), dtype=np.result_type(x.dtype, weight.dtype))
    linear_into(y, x, weight, bias)
    return y


def linear_into(y: Array, x: Array, weight: Array, bias: Array | None) -> None:
    """Write x W^T + b over y (..., O), each piece's bias while it is in the cache."""
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
    sums: Array = with_single_blas_thread(lambda: ones @ matrix)  # with more, the bits would depend on their number
    return sums


def row_sums(matrix: Array) -> Array:
    """(N, O)  ->  (N, 1)"""
    ones = np.ones((matrix.shape[1], 1), dtype=matrix.dtype)
    sums: Array = with_single_blas_thread(lambda: matrix @ ones)
    return sums


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
    dweight = _joined_grad_out(dweights)
    dx = matmul(dy, joined) if want_dx and joined is not None else None
    if dweight is not None:
        gemm_into(dweight, rows(dy).T, rows(x))
    for k, weight in enumerate(weights):
        part = dy[..., k * width : (k + 1) * width]
        own = None if dweight else dweights[k]
        more = linear_backward(part, x, weight, own, dbiases[k], want_dx and joined is None)
        if more is not None:
            dx = more if dx is None else np.add(dx, more, out=dx)
    return dx


def as_contiguous_view(arrays: Sequence[Array]) -> Array | None:
    """Matrices of one shape that lie one behind the other in memory, as one (K * O, I); None if they do not.

    The optimizer lays parameters so: Q, K and V are one product then.
    """
    first, whole = arrays[0], arrays[0].base
    if whole is None or whole.ndim != 1 or any(a.base is not whole or not a.flags.c_contiguous for a in arrays):
        return None
    start = _address(first)
    for k, a in enumerate(arrays):
        if a.shape != first.shape or _address(a) != start + k * first.nbytes:
            return None
    begin = (start - _address(whole)) // first.itemsize
    joined: Array = whole[begin : begin + len(arrays) * first.size].reshape(-1, first.shape[1])
    return joined


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _joined_grad_out(grad_outs: Sequence[GradOut | None]) -> GradOut | None:
    """GradOuts that are contiguous in memory, and all accumulate or all do not, as one."""
    there = [out for out in grad_outs if out is not None]
    if len(there) < len(grad_outs) or len({out.accumulate for out in there}) > 1:
        return None
    joined = as_contiguous_view([out.array for out in there])
    return None if joined is None else GradOut(joined, there[0].accumulate)
