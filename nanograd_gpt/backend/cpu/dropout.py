"""Dropout in blocks, alone or fused with the residual sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Array, Bools
from .blocks import flat, for_each_block


def dropout(x: Array, keep: Bools, rate: float, dtype: Any = None) -> Array:
    return _dropout(x, keep, rate, None, np.empty(x.shape, dtype=dtype or x.dtype))


def dropout_add(x: Array, keep: Bools, rate: float, residual: Array) -> Array:
    return _dropout(x, keep, rate, residual, np.empty(x.shape, dtype=np.result_type(x.dtype, residual.dtype)))


def _dropout(x: Array, keep: Bools, rate: float, residual: Array | None, y: Array) -> Array:
    x_, keep_, y_, scale = flat(x), flat(keep), y.reshape(-1), 1 / (1 - rate)
    residual_ = None if residual is None else flat(residual)

    def body(block: slice) -> None:
        out = y_[block]
        np.multiply(x_[block], keep_[block], out=out)
        out *= scale
        if residual_ is not None:
            out += residual_[block]

    for_each_block(x.size, 5, body)
    return y
