"""LayerNorm in blocks of rows.  The formula is plain/norm.py's.

By one thread: two took longer at every size, for each waits for the other's GIL after each of many short passes.
"""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from .blocks import BLOCK_ELEMENTS, blocks, rows_per_block
from .matmul import column_sums, row_sums
from .threads import with_single_blas_thread

MIN_BLOCKED_ELEMENTS = 1 << 13  # fewer, such as one token's, are faster in one piece


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    if x.size < MIN_BLOCKED_ELEMENTS:
        return _small_layer_norm(x, scale, shift, eps)
    dtype, C = np.result_type(x.dtype, scale.dtype, shift.dtype), x.shape[-1]
    y = np.empty(x.shape, dtype=dtype)
    mean, rstd = np.empty((*x.shape[:-1], 1), dtype=x.dtype), np.empty((*x.shape[:-1], 1), dtype=x.dtype)
    x_, y_, mean_, rstd_ = rows(x), rows(y), rows(mean), rows(rstd)

    def normalise() -> None:
        for block in blocks(len(x_), _block_rows(C)):
            out = y_[block]
            np.divide(row_sums(x_[block]), C, out=mean_[block])
            np.subtract(x_[block], mean_[block], out=out)
            r = _sums_of_squares(out)
            r /= C
            r += eps
            np.sqrt(r, out=r)
            np.divide(1, r, out=rstd_[block], casting="same_kind")
            out *= _outer(rstd_[block], scale)
            out += shift

    with_single_blas_thread(normalise)
    return y, mean, rstd


def _small_layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    """The plain formula in fewer NumPy calls: for one token, call overhead dominates."""
    C = x.shape[-1] or 1  # of no channels there is nothing to divide
    mean = np.add.reduce(x, axis=-1, keepdims=True)
    mean /= C
    y = x - mean
    rstd = np.add.reduce(y * y, axis=-1, keepdims=True)
    rstd /= C
    rstd += eps
    np.sqrt(rstd, out=rstd)
    np.divide(1, rstd, out=rstd)
    y *= rstd
    y *= scale
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
    step = _block_rows(C)
    sums = np.zeros((2, -(-len(x_) // step), C), dtype=dx.dtype)  # one row a block, added in order
    column = scale[:, None]

    def differentiate() -> None:
        for block in blocks(len(x_), step):
            d, r, out = dy_[block], rstd_[block], dx_[block]
            centred = x_[block] - mean_[block]
            product = d * centred
            i = block.start // step
            sums[0, i], sums[1, i] = column_sums(product, r), column_sums(d)
            along = product @ column  # sums of dnorm * centred
            np.multiply(d, scale, out=out)  # dnorm
            out -= row_sums(out) / (C or 1)
            centred *= along * r * r / (C or 1)
            out -= centred
            out *= r
            if residual_ is not None:
                out += residual_[block]

    with_single_blas_thread(differentiate)
    for grad_out, block_sums in zip((dscale, dshift), sums, strict=True):
        if grad_out is not None:
            grad_out.write(block_sums.sum(axis=0))
    return dx


def _outer(column: Array, row: Array) -> Array:
    """column (n, 1), row (C,)  ->  (n, C): faster than by broadcasting, by BLAS, to which NumPy leaves K = 2, not 1."""
    left, right = np.zeros((len(column), 2), dtype=column.dtype), np.zeros((2, len(row)), dtype=row.dtype)
    left[:, :1], right[0] = column, row
    return left @ right


def _sums_of_squares(a: Array) -> Array:
    """(n, C)  ->  (n, 1); of complex numbers without conjugation, unlike vecdot's."""
    sums = np.einsum("nc,nc->n", a, a) if a.dtype.kind == "c" else np.vecdot(a, a)
    return sums[:, None]


def _block_rows(C: int) -> int:
    """Rows per block, whose number decides how BLAS sums a row."""
    return rows_per_block(C, 2 * BLOCK_ELEMENTS)
