"""GELU, softmax and log-sum-exp."""

from __future__ import annotations

from math import pi, sqrt

from ..array_namespace import array_namespace
from ..contract import Array, Axis, GradOut
from .matmul import linear, linear_backward

ROOT, CUBIC = sqrt(2 / pi), 0.044715


def gelu(x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016), as in GPT-2 and the book."""
    xp = array_namespace(x)
    square = x * x
    half = xp.tanh(x * (ROOT + ROOT * CUBIC * square))
    half += 1
    half *= 0.5  # (1 + tanh) / 2
    y = x * half
    if not want_derivative:
        return y, None
    derivative = 2 * x * (ROOT + 3 * ROOT * CUBIC * square)
    derivative *= half * (1 - half)  # (1 - tanh^2) / 4
    derivative += half
    return y, derivative


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_derivative: bool) -> tuple[Array, Array | None]:
    return gelu(linear(x, weight, bias), want_derivative)


def linear_gelu_backward(
    dy: Array, x: Array, weight: Array, kept: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    return linear_backward(gelu_backward(dy, kept), x, weight, dweight, dbias, want_dx)


def gelu_backward(dy: Array, derivative: Array) -> Array:
    return dy * derivative


def softmax(x: Array, axis: Axis) -> Array:
    if not x.size:
        return x.copy()  # max of nothing raises
    y = array_namespace(x).exp(x - x.real.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y


def log_softmax(x: Array, axis: Axis) -> Array:
    if not x.size:
        return x.copy()
    xp = array_namespace(x)
    y = x - x.real.max(axis=axis, keepdims=True)  # first: in large x, the log of the sum would be rounded away
    y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
    return y


def softmax_backward(dy: Array, y: Array, axis: Axis) -> Array:
    dx = dy * y
    dx -= y * dx.sum(axis=axis, keepdims=True)
    return dx


def log_sum_exp(x: Array, axis: Axis) -> Array:
    """nan where the largest is infinite, so that infinite logits give a loss of nan."""
    xp = array_namespace(x)
    if not x.size:
        return x.sum(axis=axis, keepdims=True) - xp.inf
    largest = x.real.max(axis=axis, keepdims=True)
    return xp.log(xp.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
