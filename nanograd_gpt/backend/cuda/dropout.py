"""Dropout on a GPU."""

from __future__ import annotations

import cupy

from ..contract import Array, Keep, MaskSource
from ..plain import dropout as plain


def keep_mask(rng: MaskSource, shape: tuple[int, ...], rate: float) -> Keep:
    mask: Keep = cupy.asarray(rng.keep_mask(shape, rate))
    return mask


def dropout(x: Array, keep: Keep, rate: float) -> Array:
    return plain.dropout(x, keep, rate)


def dropout_add(x: Array, keep: Keep, rate: float, residual: Array) -> Array:
    return plain.dropout_add(x, keep, rate, residual)
