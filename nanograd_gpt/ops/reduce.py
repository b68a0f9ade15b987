"""Sums, means, largest elements and log-sum-exp along axes; axis=None means all of them."""

from __future__ import annotations

from math import prod
from typing import TypeAlias

from ..autograd import Function, Gradient
from ..backend.contract import Array

Axis: TypeAlias = int | tuple[int, ...] | None


def with_reduced_axes(reduced: Array, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """Give a reduction's result its axes of length 1 back, so that it broadcasts against the input's shape."""
    if keepdims:
        return reduced
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    ones = {a % len(shape) for a in axes}
    return reduced.reshape(tuple(1 if i in ones else n for i, n in enumerate(shape)))


class Sum(Function):
    """The sum along axes.  Its gradient is dy repeated, which costs no memory: a view."""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        self.saved = x.shape, axis, keepdims
        y: Array = x.sum(axis=axis, keepdims=keepdims)
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        shape, axis, keepdims = self.saved
        dx: Array = self.kernels.xp.broadcast_to(with_reduced_axes(dy, shape, axis, keepdims), shape)
        return (dx,)


class Mean(Function):
    """The mean along axes"""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        y: Array = x.mean(axis=axis, keepdims=keepdims)
        self.saved = x.shape, axis, keepdims
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        shape, axis, keepdims = self.saved
        share = dy * (dy.size / max(1, prod(shape)))
        dx: Array = self.kernels.xp.broadcast_to(with_reduced_axes(share, shape, axis, keepdims), shape)
        return (dx,)


class Max(Function):
    """The largest element along axes; equal ones share the gradient equally."""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        largest = x.real.max(axis=axis, keepdims=True)
        share = (x.real == largest).astype(x.real.dtype)  # complex numbers compare by their real part
        share /= share.sum(axis=axis, keepdims=True)
        self.saved = x.shape, axis, keepdims, share
        y: Array = (x * share).sum(axis=axis, keepdims=keepdims) if x.dtype.kind == "c" else largest
        return y if keepdims or x.dtype.kind == "c" else y.squeeze(axis)

    def backward(self, dy: Array) -> tuple[Gradient]:
        shape, axis, keepdims, share = self.saved
        return (with_reduced_axes(dy, shape, axis, keepdims) * share,)


class LogSumExp(Function):
    """y = log(sum(exp(x)));  dy/dx = exp(x - y), the softmax"""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        y = self.kernels.log_sum_exp(x, axis)
        self.saved = x, y, axis, keepdims
        return y if keepdims else y.squeeze(axis)

    def backward(self, dy: Array) -> tuple[Gradient]:
        x, y, axis, keepdims = self.saved
        return (with_reduced_axes(dy, x.shape, axis, keepdims) * self.kernels.xp.exp(x - y),)
