"""Inverted dropout (Srivastava et al. 2014): scaled in training, so that evaluation needs no scaling."""

from __future__ import annotations

from typing import Any

from ..contract import Array, Bools, MaskSource


def keep_mask(rng: MaskSource, shape: tuple[int, ...], rate: float) -> Bools:
    return rng.keep_mask(shape, rate)


def dropout(x: Array, keep: Bools, rate: float, dtype: Any = None) -> Array:
    y = x * keep
    y *= 1 / (1 - rate)
    return y if dtype is None else y.astype(dtype, copy=False)


def dropout_add(x: Array, keep: Bools, rate: float, residual: Array) -> Array:
    return dropout(x, keep, rate) + residual
