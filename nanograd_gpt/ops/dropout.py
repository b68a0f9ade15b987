"""Dropout."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array, Keep
from .operands import check_floating, check_keep, check_shape, in_one_dtype


class Dropout(Function):
    """x / (1 - rate) where kept, else 0.  The caller draws the mask: operations are deterministic.

    x (...), keep (...)  ->  y (...)
    """

    __slots__ = ()

    def forward(self, x: Array, *, keep: Keep, rate: float) -> Array:
        check_keep(keep, rate, *x.shape)
        self.saved = keep, rate
        return self.kernels.dropout(check_floating(x), keep, rate)

    def backward(self, dy: Array) -> tuple[Gradient]:
        keep, rate = self.saved
        return (self.kernels.dropout(dy, keep, rate),)


class DropoutAdd(Function):
    """dropout(x) + residual

    x (...), residual (...), keep (...)  ->  y (...)
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, residual: Array, *, keep: Keep, rate: float) -> Array:
        check_shape("residual", residual, *x.shape)
        check_keep(keep, rate, *x.shape)
        x, residual = in_one_dtype(x, residual)
        self.saved = keep, rate, x.dtype
        return self.kernels.dropout_add(x, keep, rate, residual)

    def backward(self, dy: Array) -> tuple[Gradient, Gradient]:
        return self.kernels.dropout(dy, *self.saved) if self.needs_input_grad(0) else None, dy
