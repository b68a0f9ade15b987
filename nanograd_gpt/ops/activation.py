"""GELU and softmax."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array
from .axes import checked_axes
from .operands import check_floating


class GELU(Function):
    """y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))

    x (...)  ->  y (...)
    """

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y, self.saved = self.kernels.gelu(check_floating(x), want_derivative=self.needs_input_grad(0))
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (self.kernels.gelu_backward(dy, self.saved),)


class Softmax(Function):
    """y = exp(x) / sum(exp(x)) along an axis

    x (...)  ->  y (...)
    """

    __slots__ = ()

    def forward(self, x: Array, *, axis: int = -1) -> Array:
        along = checked_axes(axis, x.ndim)
        y = self.kernels.softmax(check_floating(x), along)
        self.saved = y, along
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
        along = checked_axes(axis, x.ndim)
        y = self.kernels.log_softmax(check_floating(x), along)
        self.saved = y, along
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        y, axis = self.saved
        return (dy - self.kernels.xp.exp(y) * dy.sum(axis=axis, keepdims=True),)
