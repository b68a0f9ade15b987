"""LayerNorm some rows at a time.  The formula is plain/norm.py's."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut
from ..plain.matmul import rows
from .blocks import BLOCK, for_each_row_block, rows_a_block
from .matmul import column_sums, row_sums

MIN_BLOCKED_SIZE = 1 << 13  # elements; fewer, such as one token's, are done sooner at once


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    if x.size < MIN_BLOCKED_SIZE:
        return _little(x, scale, shift, eps)
    dtype, C = np.result_type(x.dtype, scale.dtype, shift.dtype), x.shape[-1]
    y = np.empty(x.shape, dtype=dtype)
    mean, rstd = np.empty((*x.shape[:-1], 1), dtype=x.dtype), np.empty((*x.shape[:-1], 1), dtype=x.dtype)
    x_, y_, mean_, rstd_ = rows(x), rows(y), rows(mean), rows(rstd)

    def body(part: slice) -> None:
        out = y_[part]
        np.divide(row_sums(x_[part]), C, out=mean_[part])
        np.subtract(x_[part], mean_[part], out=out)
        r = np.einsum("nc,nc->n", out, out)[:, None]  # sums of squares, of complex numbers too
        r /= C
        r += eps
        np.sqrt(r, out=r)
        np.divide(1, r, out=rstd_[part], casting="same_kind")
        out *= rstd_[part]
        out *= scale
        out += shift

    for_each_row_block(len(x_), C, body, _rows_at_a_time(C))
    return y, mean, rstd


def _little(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    """The plain formula with fewer calls, for each of which there is more to do than numbers: for one token, say."""
    C = x.shape[-1]
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
    dy: Array, x: Array, scale: Array, mean: Array, rstd: Array, dscale: GradOut | None, dshift: GradOut | None
) -> Array:
    C = x.shape[-1]
    dx = np.empty(dy.shape, dtype=np.result_type(dy.dtype, x.dtype, scale.dtype))
    dy_, x_, mean_, rstd_, dx_ = rows(dy), rows(x), rows(mean), rows(rstd), rows(dx)
    step = _rows_at_a_time(C)
    sums = np.zeros((2, -(-len(x_) // step), C), dtype=dx.dtype)  # of each block, added up in their order

    def body(part: slice) -> None:
        d, out = dy_[part], dx_[part]
        norm = x_[part] - mean_[part]
        norm *= rstd_[part]
        product = d * norm
        block = part.start // step
        sums[0, block], sums[1, block] = column_sums(product), column_sums(d)
        np.multiply(d, scale, out=out)
        along = np.einsum("nc,nc->n", out, norm)[:, None]
        along /= C
        norm *= along
        mean_of_out = row_sums(out)
        mean_of_out /= C
        out -= mean_of_out
        out -= norm
        out *= rstd_[part]

    for_each_row_block(len(x_), C, body, step)
    for grad_out, of_blocks in zip((dscale, dshift), sums, strict=True):
        if grad_out is not None:
            grad_out.write(of_blocks.sum(axis=0))
    return dx


def _rows_at_a_time(C: int) -> int:
    """The same for any number of threads: how the matrix library sums a row may depend on those beside it."""
    return rows_a_block(C, 2 * BLOCK)
