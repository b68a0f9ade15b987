"""GELU and softmax."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array


class GELU(Function):
    """y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))

    x (...)  ->  y (...)
    """

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y, self.saved = self.kernels.gelu(x, want_slope=self.wants(0))
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (self.kernels.slope_times(dy, self.saved),)


class Softmax(Function):
    """y = exp(x) / sum(exp(x)) along an axis

    x (...)  ->  y (...)
    """

    __slots__ = ()

    def forward(self, x: Array, *, axis: int = -1) -> Array:
        y = self.kernels.softmax(x, axis)
        self.saved = y, axis
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        y, axis = self.saved
        return (self.kernels.softmax_backward(dy, y, axis),)


class LogSoftmax(Function):
    """y = x - log(sum(exp(x))) along an axis;  dx = dy - softmax(x) sum(dy)

    x (...)  ->  y (...)
    """

    __slots__ = ()

    def forward(self, x: Array, *, axis: int = -1) -> Array:
        y: Array = x - self.kernels.log_sum_exp(x, axis)
        self.saved = y, axis
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        y, axis = self.saved
        along = axis if y.ndim else None  # CuPy's sum() of no axes has not even axis 0
        return (dy - self.kernels.xp.exp(y) * dy.sum(axis=along, keepdims=True),)
