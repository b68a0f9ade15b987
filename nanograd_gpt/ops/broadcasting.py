"""NumPy's broadcasting, backwards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..backend.contract import Array


class Form(NamedTuple):
    """What an operation keeps of an input whose values it does not need."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None  # None for a plain number


def form(x: Any) -> Form:
    return Form(x.shape, x.dtype) if hasattr(x, "dtype") else Form((), None)


def unbroadcast(gradient: Array, like: Form) -> Array:
    """Sum over the axes along which the input was repeated: the input's shape and dtype again."""
    if gradient.shape != like.shape:
        extra = gradient.ndim - len(like.shape)
        padded = (1,) * extra + like.shape
        repeated = tuple(i for i, n in enumerate(padded) if n == 1)
        gradient = gradient.sum(axis=repeated, keepdims=True).reshape(like.shape)
    if gradient.dtype != like.dtype:
        gradient = gradient.astype(like.dtype)
    return gradient
