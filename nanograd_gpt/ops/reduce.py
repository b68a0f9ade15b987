"""Sum, mean, max and log-sum-exp along axes; axis=None means all axes."""

from __future__ import annotations

from math import prod

import numpy as np

from ..autograd import Function, Gradient
from ..backend.contract import Array, Axis
from .axes import checked_axes, with_reduced_axes


class Sum(Function):
    """Sum along axes.  Its gradient is a broadcast view of dy."""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        axis = checked_axes(axis, x.ndim)
        self.saved = x.shape, axis, keepdims
        return x.sum(axis=axis, keepdims=keepdims)

    def backward(self, dy: Array) -> tuple[Gradient]:
        shape, axis, keepdims = self.saved
        dx = self.kernels.xp.broadcast_to(with_reduced_axes(dy, shape, axis, keepdims), shape)
        return (dx,)


class Mean(Function):
    """Mean along axes."""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        axis = checked_axes(axis, x.ndim)
        y = x.mean(axis=axis, keepdims=keepdims)
        self.saved = x.shape, axis, keepdims
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        shape, axis, keepdims = self.saved
        share = dy * (dy.size / max(1, prod(shape)))
        dx = self.kernels.xp.broadcast_to(with_reduced_axes(share, shape, axis, keepdims), shape)
        return (dx,)


class Max(Function):
    """Max along axes; ties share the gradient equally."""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        axis = checked_axes(axis, x.ndim)
        largest = x.real.max(axis=axis, keepdims=True)  # complex numbers compare by their real part
        self.saved = x, largest, axis, keepdims
        if x.dtype.kind == "c":
            return (x * self._share(x, largest, axis)).sum(axis=axis, keepdims=keepdims)
        return largest if keepdims else largest.squeeze(axis)

    def backward(self, dy: Array) -> tuple[Gradient]:
        x, largest, axis, keepdims = self.saved
        return (with_reduced_axes(dy, x.shape, axis, keepdims) * self._share(x, largest, axis),)

    @staticmethod
    def _share(x: Array, largest: Array, axis: Axis) -> Array:
        """1 / n where x is one of n equal maxima, else 0; nan where the maximum is."""
        share = (x.real == largest).astype(x.real.dtype)
        with np.errstate(invalid="ignore"):  # nan equals nothing: 0 / 0
            share /= share.sum(axis=axis, keepdims=True)
        return share


class LogSumExp(Function):
    """y = log(sum(exp(x)));  dy/dx = exp(x - y), the softmax"""

    __slots__ = ()

    def forward(self, x: Array, *, axis: Axis, keepdims: bool) -> Array:
        axis = checked_axes(axis, x.ndim)
        x = x if x.dtype.kind in "fc" else x.astype(np.float64)  # exp of int8 would be float16
        with np.errstate(invalid="ignore"):
            y = self.kernels.log_sum_exp(x, axis)
        if x.size:  # an infinite maximum is the result
            y = self.kernels.xp.where(self.kernels.xp.isnan(y), x.real.max(axis=axis, keepdims=True), y)
        self.saved = x, y, axis, keepdims
        return y if keepdims else y.squeeze(axis)

    def backward(self, dy: Array) -> tuple[Gradient]:
        x, y, axis, keepdims = self.saved
        return (with_reduced_axes(dy, x.shape, axis, keepdims) * self.kernels.xp.exp(x - y),)
