"""GELU, softmax and log-sum-exp."""

from __future__ import annotations

from math import pi, sqrt

from ..contract import Array
from ..namespace import namespace
from .matmul import linear

ROOT, CUBIC = sqrt(2 / pi), 0.044715


def gelu(x: Array, want_slope: bool) -> tuple[Array, Array | None]:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): Hendrycks and Gimpel 2016, as GPT-2 and the book have it."""
    xp = namespace(x)
    square = x * x
    half = xp.tanh(x * (ROOT + ROOT * CUBIC * square))
    half += 1
    half *= 0.5  # (1 + tanh) / 2
    y = x * half
    if not want_slope:
        return y, None
    slope: Array = 2 * x * (ROOT + 3 * ROOT * CUBIC * square)
    slope *= half * (1 - half)  # (1 - tanh^2) / 4
    slope += half
    return y, slope


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_slope: bool) -> tuple[Array, Array | None]:
    return gelu(linear(x, weight, bias), want_slope)


def slope_times(dy: Array, slope: Array) -> Array:
    return dy * slope


def softmax(x: Array, axis: int) -> Array:
    along = _axis_of(x, axis)
    y: Array = namespace(x).exp(x - x.real.max(axis=along, keepdims=True))
    y /= y.sum(axis=along, keepdims=True)
    return y


def softmax_backward(dy: Array, y: Array, axis: int) -> Array:
    dx: Array = dy * y
    dx -= y * dx.sum(axis=_axis_of(y, axis), keepdims=True)
    return dx


def log_sum_exp(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    xp, along = namespace(x), _axis_of(x, axis)
    largest = x.real.max(axis=along, keepdims=True)
    result: Array = xp.log(xp.exp(x - largest).sum(axis=along, keepdims=True)) + largest
    return result


def _axis_of(x: Array, axis: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
    """The axis; None where x has no axes, of which NumPy's sum() and max() have an axis 0, and CuPy's have not."""
    return None if not x.ndim and axis in (0, -1) else axis
