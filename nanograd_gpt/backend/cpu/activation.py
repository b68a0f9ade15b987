"""GELU a block at a time, in place where it can be.  The formula is plain/activation.py's."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..plain.activation import CUBIC, ROOT
from ..plain.matmul import rows
from .blocks import blocks, for_each_block, rows_a_block
from .matmul import Tile, gemm


def gelu(x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
    x = np.ascontiguousarray(x).reshape(x.shape)  # which keeps a shape of ()
    y = np.empty_like(x)
    slope = np.empty_like(x) if want_derivative else None
    x_, y_, slope_ = x.reshape(-1), y.reshape(-1), None if slope is None else slope.reshape(-1)
    for_each_block(x.size, lambda part: _gelu(x_[part], y_[part], None if slope_ is None else slope_[part]))
    return y, slope


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_derivative: bool) -> tuple[Array, Array | None]:
    h = np.empty((*x.shape[:-1], len(weight)), dtype=np.result_type(x.dtype, weight.dtype))
    y = np.empty_like(h)
    h_, y_ = rows(h), rows(y)

    def activate(tile: Tile) -> None:
        hp, yp = h_[tile], y_[tile]
        for part in blocks(len(hp), rows_a_block(hp.shape[1])):
            if bias is not None:
                hp[part] += bias[tile[1]]
            _gelu(
                hp[part], yp[part], hp[part] if want_derivative else None
            )  # the slope takes the place of what went in

    gemm(rows(x), weight.T, h_, activate)
    return y, h if want_derivative else None


def gelu_backward(dy: Array, slope: Array) -> Array:
    if not (dy.flags.c_contiguous and slope.flags.c_contiguous):
        return np.multiply(dy, slope)
    dx = np.empty(dy.shape, dtype=np.result_type(dy.dtype, slope.dtype))
    a, b, out = dy.reshape(-1), slope.reshape(-1), dx.reshape(-1)
    for_each_block(dy.size, lambda part: np.multiply(a[part], b[part], out=out[part]))
    return dx


def _gelu(x: Array, y: Array, slope: Array | None) -> None:
    """Fill y, and slope if it is given; slope may be x itself."""
    square = x * x
    half = square * (ROOT * CUBIC)
    half += ROOT
    half *= x
    np.tanh(half, out=half)
    half += 1
    half *= 0.5  # (1 + tanh) / 2
    np.multiply(x, half, out=y)
    if slope is None:
        return
    square *= 6 * ROOT * CUBIC
    square += 2 * ROOT
    square *= x  # 2 x d(inner)/dx
    square *= half
    np.subtract(1, half, out=slope)
    square *= slope
    np.add(square, half, out=slope)
