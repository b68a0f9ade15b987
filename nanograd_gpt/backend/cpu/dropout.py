"""Dropout in blocks, alone or fused with the residual sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Array, Bools
from .blocks import for_each_block


def dropout(x: Array, keep: Bools, rate: float, dtype: Any = None) -> Array:
    y = np.empty(x.shape, dtype=dtype or x.dtype)
    x_, keep_, y_, scale = _flat(x), _flat(keep), y.reshape(-1), 1 / (1 - rate)

    def body(block: slice) -> None:
        out = y_[block]
        np.multiply(x_[block], keep_[block], out=out)
        out *= scale

    for_each_block(x.size, 4, body)
    return y


def dropout_add(x: Array, keep: Bools, rate: float, residual: Array) -> Array:
    y = np.empty(x.shape, dtype=np.result_type(x.dtype, residual.dtype))
    x_, keep_, residual_, y_, scale = _flat(x), _flat(keep), _flat(residual), y.reshape(-1), 1 / (1 - rate)

    def body(block: slice) -> None:
        out = y_[block]
        np.multiply(x_[block], keep_[block], out=out)
        out *= scale
        out += residual_[block]

    for_each_block(x.size, 5, body)
    return y


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1)
