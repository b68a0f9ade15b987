"""Linear layers: products are cut among our threads, with an epilogue on each finished tile.

Small products are computed by one thread, those of one row by ours, other skinny ones by BLAS's.  How a product is cut
depends on its sizes and the number of threads alone, since its bits may, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple, TypeAlias

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from ..plain.packed import as_contiguous_view, joined_grad_out
from .blocks import blocks
from .pool import Job
from .threads import blas_threads_controllable, n_threads, parallel_for, with_blas_threads, with_single_blas_thread

Tile: TypeAlias = tuple[slice, slice]  # rows and columns of a matrix
BiasGradient: TypeAlias = tuple[GradOut | None, Array]  # and the dy (..., O) that it sums

SKINNY_ROWS = 32  # fewer rows: memory-bound
MIN_SHARED_MATRIX = 1 << 20  # elements, multiplied by one row: some 200 us of one thread
MIN_GEMV_COLUMN = 1 << 11  # elements of a column: shorter ones are read faster by a dot product each
GIL_KEPT = 500  # results: for so many or fewer, NumPy's generalized ufuncs, matmul and vecdot among them, keep the GIL
MIN_SHARED_PRODUCT = 3 << 20  # multiplications, some 50 us of one thread: fewer gain nothing from a second one
SLICE_MULTIPLE = 16  # rows or columns: no remainder in BLAS's inner loops
ALL = slice(None)


class Product(NamedTuple):
    """out (M, N) = a (M, K) @ b (K, N); `epilogue` is called with each finished tile of out.

    in_rows: tiles are whole rows, contiguous in memory, for an epilogue that passes over them many times.
    """

    a: Array
    b: Array
    out: Array
    epilogue: Callable[[Tile], object] | None = None
    in_rows: bool = False

    @property
    def is_shared(self) -> bool:
        (M, K), N = self.a.shape, self.b.shape[1]
        return M >= SKINNY_ROWS and M * K * N >= MIN_SHARED_PRODUCT and blas_threads_controllable()

    def tiles(self, n: int) -> list[Tile]:
        """At most n tiles that cover out: rows or columns, whichever are more."""
        M, N = self.out.shape
        if M > N or (self.in_rows and n * SLICE_MULTIPLE <= M):
            return [(some_rows, ALL) for some_rows in _slices(M, n)]
        return [(ALL, columns) for columns in _slices(N, n)]

    def multiply(self, tile: Tile) -> None:
        np.matmul(self.a[tile[0]], self.b[:, tile[1]], out=self.out[tile])
        self.finish(tile)

    def finish(self, tile: Tile) -> None:
        if self.epilogue is not None:
            self.epilogue(tile)


def multiply(products: Sequence[Product], *others: Job) -> None:
    """Compute products that do not depend on each other, and call `others`, in several threads if one is shared.

    With two products and two threads, each takes one: cutting both costs more.
    """
    shared = [product for product in products if product.is_shared]
    n = -(-n_threads() // max(1, len(shared)))
    jobs: list[Job] = [partial(product.multiply, tile) for product in shared for tile in product.tiles(n)]
    for product in products:
        if not product.is_shared:
            _small_or_skinny(product.a, product.b, product.out)
            product.finish((ALL, ALL))
    if jobs or others:
        parallel_for([*jobs, *others], lambda job: job(), bool(shared))


def _small_or_skinny(a: Array, b: Array, out: Array) -> None:
    """A small product in this thread, one row in ours, other skinny ones in BLAS's, which start fastest."""
    if len(a) >= SKINNY_ROWS:
        with_single_blas_thread(lambda: np.matmul(a, b, out=out))
    elif len(a) == 1 and b.strides[0] == b.itemsize and b.dtype.kind == "f":
        _one_row(a[0], b, out[0])
    else:  # BLAS reads the matrix faster transposed
        out[...] = with_blas_threads(lambda: np.matmul(b.T, a.T)).T


def _one_row(a: Array, b: Array, out: Array) -> None:
    """out (N,) = a (K,) @ b (K, N), b in columns, with the same bits for any number of threads."""
    K, N = b.shape
    n = n_threads() if K * N >= MIN_SHARED_MATRIX else 1
    is_short = K < MIN_GEMV_COLUMN
    if is_short:
        n = max(1, min(n, N // (GIL_KEPT + SLICE_MULTIPLE)))
    dot = np.vecdot if is_short else np.dot
    if is_short and n == 1:  # BLAS computes dot products of this length in one thread
        dot(b.T, a, out=out)
    else:
        parallel_for(_slices(N, n), lambda columns: dot(b[:, columns].T, a, out=out[columns]))


def _slices(size: int, n: int) -> list[slice]:
    """At most n slices that cover 0 .. size, multiples of SLICE_MULTIPLE but for the last."""
    multiples = -(-size // SLICE_MULTIPLE)
    return blocks(size, max(1, -(-multiples // n)) * SLICE_MULTIPLE)


def matrix_product(x: Array, y: Array) -> Array:
    return with_blas_threads(lambda: x @ y)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    y = np.empty((*x.shape[:-1], len(weight)), dtype=np.result_type(x.dtype, weight.dtype))
    x_, y_ = rows(x), rows(y)
    if len(x_) < SKINNY_ROWS:
        _small_or_skinny(x_, weight.T, y_)
        return y if bias is None else np.add(y, bias, out=y)
    add = None if bias is None else partial(_add_to_tile, y_, np.broadcast_to(bias, y_.shape))
    multiply([Product(x_, weight.T, y_, add)])
    return y


def _add_to_tile(y: Array, addend: Array, tile: Tile) -> None:
    y[tile] += addend[tile]  # while it is in the cache


def product_into(grad_out: GradOut, a: Array, b: Array) -> Product:
    """The product that writes a @ b straight into grad_out's memory, or adds it tile by tile."""
    if not grad_out.accumulate:
        return Product(a, b, grad_out.array)
    product = np.empty(grad_out.array.shape, dtype=np.result_type(a.dtype, b.dtype))
    return Product(a, b, product, partial(_add_to_tile, grad_out.array, product))


def linear_backward(
    dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    return _backward(dy, x, weight if want_dx else None, dweight, [(dbias, dy)])


def _backward(
    dy: Array, x: Array, weight: Array | None, dweight: GradOut | None, biases: Sequence[BiasGradient]
) -> Array | None:
    """dx if the weight is given, and the gradients of the weight and of biases."""
    products = [] if dweight is None else [product_into(dweight, rows(dy).T, rows(x))]
    dx = None
    if weight is not None:
        dx = np.empty((*dy.shape[:-1], weight.shape[1]), dtype=np.result_type(dy.dtype, weight.dtype))
        products.append(Product(rows(dy), weight, rows(dx)))
    multiply(products, *(lambda d=d, of=of: d.write(column_sums(rows(of))) for d, of in biases if d is not None))
    return dx


def column_sums(matrix: Array, weights: Array | None = None) -> Array:
    """matrix (N, O), weights (N, 1), by default ones  ->  (O,)"""
    summed = np.ones(len(matrix), dtype=matrix.dtype) if weights is None else weights[:, 0]
    # With more threads, the bits would depend on their number.  @ would keep the GIL where O is 500 or less.
    return with_single_blas_thread(lambda: np.dot(summed, matrix))


def packed_linear(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
    joined, present = as_contiguous_view(weights), [bias for bias in biases if bias is not None]
    of_token = len(rows(x)) == 1 and len(present) == len(biases)  # dot products: the same bits, joined or not
    if joined is not None and (of_token or not present):
        return linear(x, joined, np.concatenate(present) if present else None)
    outputs = [linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    return np.concatenate(outputs, axis=-1)


def packed_linear_backward(
    dy: Array,
    x: Array,
    weights: Sequence[Array],
    dweights: Sequence[GradOut | None],
    dbiases: Sequence[GradOut | None],
    want_dx: bool,
) -> Array | None:
    joined, dweight, width = as_contiguous_view(weights), joined_grad_out(dweights), len(weights[0])
    parts = [dy[..., k * width : (k + 1) * width] for k in range(len(weights))]
    if joined is not None and dweight is not None:
        return _backward(dy, x, joined if want_dx else None, dweight, list(zip(dbiases, parts, strict=True)))
    each = zip(parts, weights, dweights, dbiases, strict=True)
    dxs = [linear_backward(part, x, weight, dweight, dbias, want_dx) for part, weight, dweight, dbias in each]
    return reduce(np.add, [dx for dx in dxs if dx is not None]) if want_dx else None
