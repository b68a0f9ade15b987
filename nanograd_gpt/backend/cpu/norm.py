"""LayerNorm in blocks of rows.  The formula is plain/norm.py's."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from .blocks import BLOCK_ELEMENTS, for_each_row_block, rows_per_block
from .matmul import column_sums, row_sums

SWEEPS = 2  # fewer than there are: many short calls contend for the GIL, so that threads pay for large arrays only
MIN_BLOCKED_ELEMENTS = 1 << 13  # fewer, such as one token's, are faster in one piece


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    if x.size < MIN_BLOCKED_ELEMENTS:
        return _small_layer_norm(x, scale, shift, eps)
    dtype, C = np.result_type(x.dtype, scale.dtype, shift.dtype), x.shape[-1]
    y = np.empty(x.shape, dtype=dtype)
    mean, rstd = np.empty((*x.shape[:-1], 1), dtype=x.dtype), np.empty((*x.shape[:-1], 1), dtype=x.dtype)
    x_, y_, mean_, rstd_ = rows(x), rows(y), rows(mean), rows(rstd)

    def body(block: slice) -> None:
        out = y_[block]
        np.divide(row_sums(x_[block]), C, out=mean_[block])
        np.subtract(x_[block], mean_[block], out=out)
        r = np.einsum("nc,nc->n", out, out)[:, None]  # sums of squares, of complex numbers too
        r /= C
        r += eps
        np.sqrt(r, out=r)
        np.divide(1, r, out=rstd_[block], casting="same_kind")
        out *= rstd_[block]
        out *= scale
        out += shift

    for_each_row_block(len(x_), C, SWEEPS, body, _block_rows(C))
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

    def body(block: slice) -> None:
        d, out = dy_[block], dx_[block]
        norm = x_[block] - mean_[block]
        norm *= rstd_[block]
        product = d * norm
        i = block.start // step
        sums[0, i], sums[1, i] = column_sums(product), column_sums(d)
        np.multiply(d, scale, out=out)
        along = np.einsum("nc,nc->n", out, norm)[:, None]
        along /= C or 1
        norm *= along
        mean_of_out = row_sums(out)
        mean_of_out /= C or 1
        out -= mean_of_out
        out -= norm
        out *= rstd_[block]
        if residual_ is not None:
            out += residual_[block]

    for_each_row_block(len(x_), C, 2 * SWEEPS, body, step)
    for grad_out, block_sums in zip((dscale, dshift), sums, strict=True):
        if grad_out is not None:
            grad_out.write(block_sums.sum(axis=0))
    return dx


def _block_rows(C: int) -> int:
    """Rows per block, for any number of threads: how BLAS sums a row may depend on the rows beside it."""
    return rows_per_block(C, 2 * BLOCK_ELEMENTS)
