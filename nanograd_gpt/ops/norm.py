"""Layer normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Function, Gradient
from ..backend.bfloat16 import is_bfloat16
from ..backend.contract import Array
from .operands import check_shape, in_one_dtype


class LayerNorm(Function):
    """y = (x - mean) * rstd * scale + shift, over the last axis.

    x (..., C), scale (C,), shift (C,)  ->  y (..., C)
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, scale: Array, shift: Array, *, eps: float = 1e-5) -> Array:
        if not x.ndim:
            raise ValueError("x has shape (), expected (..., C)")
        for what, array in (("scale", scale), ("shift", shift)):
            check_shape(what, array, *x.shape[-1:])
        x, scale, shift = in_one_dtype(x, scale, shift)
        y, mean, rstd = self.kernels.layer_norm(x, scale, shift, eps)
        self.saved = x, scale, mean, rstd
        return y

    def backward(self, dy: Array) -> tuple[Gradient, Gradient, Gradient]:
        x, scale, mean, rstd = self.saved
        dscale, dshift = self.grad_out(1, scale), self.grad_out(2, scale)
        stream = self._residual_stream(x.dtype)
        residual = None if stream is None else stream.grad
        dx = self.kernels.layer_norm_backward(dy, x, scale, mean, rstd, dscale, dshift, residual)
        if stream is None:
            return dx, dscale, dshift
        stream.grad, stream.owned = dx, True  # the sum: adding dx to it later would read both once more
        return None, dscale, dshift

    def _residual_stream(self, dtype: np.dtype[Any]) -> Function | None:
        """The node of x, if it has a gradient already: from the sum that skips this norm, in a transformer block."""
        x = self.parents[0]
        if is_bfloat16(dtype):  # whose gradient is of bfloat16 too, which the kernel does not add to
            return None
        return x if isinstance(x, Function) and x.grad is not None and x.dtype == dtype else None
