"""GELU a block at a time, in place where it can be.  The formula is plain/activation.py's."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..plain.activation import CUBIC, ROOT
from ..plain.matmul import linear
from .blocks import for_each_block


def gelu(x: Array, want_slope: bool) -> tuple[Array, Array | None]:
    x = np.ascontiguousarray(x).reshape(x.shape)  # which keeps a shape of ()
    y = np.empty_like(x)
    slope = np.empty_like(x) if want_slope else None
    _gelu(x, y, slope)
    return y, slope


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_slope: bool) -> tuple[Array, Array | None]:
    h = linear(x, weight, bias)  # ours: the slope may take its place
    y = np.empty_like(h)
    _gelu(h, y, h if want_slope else None)
    return y, h if want_slope else None


def _gelu(x: Array, y: Array, slope: Array | None) -> None:
    """Fill y, and slope if it is given; slope may be x itself."""
    x_, y_, slope_ = x.reshape(-1), y.reshape(-1), None if slope is None else slope.reshape(-1)

    def body(part: slice) -> None:
        u, result = x_[part], y_[part]
        square = u * u
        half = square * (ROOT * CUBIC)
        half += ROOT
        half *= u
        np.tanh(half, out=half)
        half += 1
        half *= 0.5  # (1 + tanh) / 2
        np.multiply(u, half, out=result)
        if slope_ is None:
            return
        square *= 6 * ROOT * CUBIC
        square += 2 * ROOT
        square *= u  # 2 u d(inner)/du
        square *= half
        np.subtract(1, half, out=slope_[part])
        square *= slope_[part]
        np.add(square, half, out=slope_[part])

    for_each_block(x_.size, body)
