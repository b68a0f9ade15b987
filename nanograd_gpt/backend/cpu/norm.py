"""LayerNorm in blocks of rows.  The formula is plain/norm.py's.

Sums are np.dot's: np.matmul and np.vecdot keep the GIL where they give 500 numbers or fewer.  Sums of squares are
np.vecdot's nevertheless: np.einsum, which releases it, takes longer than a wait for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from .blocks import SHARED_BLOCK_ELEMENTS, for_each_block
from .matmul import column_sums
from .threads import with_single_blas_thread

MIN_BLOCKED_ELEMENTS = 1 << 13  # fewer, such as one token's, are faster in one piece
COST, BACKWARD_COST = 10, 17  # of an element, in multiplications


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    if x.size < MIN_BLOCKED_ELEMENTS:
        return _small_layer_norm(x, scale, shift, eps)
    dtype, C = np.result_type(x.dtype, scale.dtype, shift.dtype), x.shape[-1]
    y = np.empty(x.shape, dtype=dtype)
    mean, rstd = np.empty((*x.shape[:-1], 1), dtype=x.dtype), np.empty((*x.shape[:-1], 1), dtype=x.dtype)
    x_, y_, mean_, rstd_, ones = rows(x), rows(y), rows(mean), rows(rstd), np.ones((C, 1), dtype=x.dtype)

    def normalise(block: slice) -> None:
        out, r = y_[block], rstd_[block]
        np.divide(np.dot(x_[block], ones), C, out=mean_[block])
        np.subtract(x_[block], mean_[block], out=out)
        np.divide(_sums_of_squares(out), C, out=r, casting="same_kind")
        r += eps
        np.sqrt(r, out=r)
        np.divide(1, r, out=r)
        out *= _outer(r, scale)
        out += shift

    _for_each_block(x_, COST, normalise)
    return y, mean, rstd


def _small_layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    """The plain formula in fewer NumPy calls: for one token, call overhead dominates."""
    C = x.shape[-1] or 1  # of no channels there is nothing to divide
    mean = np.add.reduce(x, axis=-1, keepdims=True) / C
    y = x - mean
    rstd = 1 / np.sqrt(_sums_of_squares(y) / C + eps)
    y *= rstd * scale
    y += shift
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
    C = x.shape[-1]
    dx = np.empty(dy.shape, dtype=np.result_type(dy.dtype, x.dtype, scale.dtype))
    dy_, x_, mean_, rstd_, dx_ = rows(dy), rows(x), rows(mean), rows(rstd), rows(dx)
    residual_ = None if residual is None else rows(residual)
    step = _block_rows(x_)
    sums = np.zeros((2, -(-len(x_) // step), C), dtype=dx.dtype)  # one row a block, added in order
    column, ones = scale[:, None], np.ones((C, 1), dtype=dx.dtype)

    def differentiate(block: slice) -> None:
        d, r, out = dy_[block], rstd_[block], dx_[block]
        centred = x_[block] - mean_[block]
        product = np.multiply(d, centred, out=out)
        i = block.start // step
        sums[0, i], sums[1, i] = column_sums(product, r), column_sums(d)
        centred *= np.dot(product, column) * r * r / (C or 1)  # norm, times the mean of dnorm * norm
        np.multiply(d, scale, out=out)  # dnorm
        out -= np.dot(out, ones) / (C or 1)
        out -= centred
        out *= r
        if residual_ is not None:
            out += residual_[block]

    _for_each_block(x_, BACKWARD_COST, differentiate)
    for grad_out, block_sums in zip((dscale, dshift), sums, strict=True):
        if grad_out is not None:
            grad_out.write(block_sums.sum(axis=0))
    return dx


def _for_each_block(matrix: Array, cost: int, body: Callable[[slice], object]) -> None:
    n, C = matrix.shape
    with_single_blas_thread(lambda: for_each_block(n, cost, body, C, _block_rows(matrix)))


def _block_rows(matrix: Array) -> int:
    """Rows per block, whose number decides how BLAS sums a row: all, or as many in each of an even number of blocks.

    A few large blocks take less time than many that fit into a core's cache: each pass may wait for the GIL.
    """
    n, C = matrix.shape
    pairs = -(-n * C // (4 * SHARED_BLOCK_ELEMENTS)) if n * C > SHARED_BLOCK_ELEMENTS else 0
    return -(-n // (2 * pairs)) if pairs else max(1, n)


def _outer(column: Array, row: Array) -> Array:
    """column (n, 1), row (C,)  ->  (n, C), by BLAS: faster than broadcasting.  NumPy uses BLAS for K = 2, not for 1."""
    left, right = np.zeros((len(column), 2), dtype=column.dtype), np.zeros((2, len(row)), dtype=row.dtype)
    left[:, :1], right[0] = column, row
    return left @ right


def _sums_of_squares(a: Array) -> Array:
    """(..., C)  ->  (..., 1); of complex numbers without conjugation, unlike vecdot's."""
    sums = np.einsum("...c,...c->...", a, a) if a.dtype.kind == "c" else np.vecdot(a, a)
    return np.asarray(sums)[..., None]
