"""The backward of NumPy's broadcasting."""

from __future__ import annotations

from typing import Any

from ..backend.contract import Array


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an array; () for a plain number."""
    return getattr(x, "shape", ())


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an input of this shape was broadcast."""
    if gradient.shape == shape:
        return gradient
    padded = (1,) * (gradient.ndim - len(shape)) + shape
    repeated = tuple(i for i, n in enumerate(padded) if n == 1)
    return gradient.sum(axis=repeated, keepdims=True).reshape(shape)
