"""Matrix products: the general one, and the linear layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Function, Gradient
from ..backend.contract import Array
from .broadcasting import shape_of, unbroadcast
from .operands import check_shape, in_one_dtype


class MatMul(Function):
    """x @ y as in NumPy: (..., I, J) @ (..., J, K) -> (..., I, K), with vectors and broadcasting of batches."""

    __slots__ = ()

    def forward(self, x: Array, y: Array) -> Array:
        self.saved = x, y
        return self.kernels.matrix_product(x, y)

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y = self.saved
        if y.ndim == 1:  # a vector on the right is a column, whose axis the product drops
            y, dz = y[:, None], dz[..., None]
        if x.ndim == 1:  # a vector on the left is a row
            x, dz = x[None, :], dz[..., None, :]
        dx = dy = None
        if self.needs_input_grad(0):
            dx = unbroadcast(self.kernels.matrix_product(dz, y.swapaxes(-1, -2)), shape_of(x))
        if self.needs_input_grad(1):
            dy = unbroadcast(self.kernels.matrix_product(x.swapaxes(-1, -2), dz), shape_of(y))
        x, y = self.saved
        return dx if dx is None or x.ndim > 1 else dx[0], dy if dy is None or y.ndim > 1 else dy[:, 0]


def linear_operands(x: Array, weight: Array, bias: Array | None) -> Sequence[Any]:
    """x (..., I), weight (O, I) and bias (O,) in one dtype.  Raises ValueError for shapes that do not match."""
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"x has shape {x.shape} and weight {weight.shape}, expected (..., I) and (O, I)")
    check_shape("bias", bias, len(weight))
    return in_one_dtype(x, weight, bias)


class Linear(Function):
    """y = x W^T + b

    x (..., I), weight (O, I), bias (O,) or none  ->  y (..., O)
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        x, weight, bias = linear_operands(x, weight, bias)
        (used,) = self.kernels.product_weights(x, [weight])
        self.saved = x, weight, used, bias
        return self.kernels.linear(x, used, bias)

    def backward(self, dy: Array) -> tuple[Gradient, ...]:
        x, weight, used, bias = self.saved
        dweight, dbias = self.grad_out(1, weight), None if bias is None else self.grad_out(2, bias)
        dx = self.kernels.linear_backward(dy, x, used, dweight, dbias, self.needs_input_grad(0))
        return (dx, dweight) if bias is None else (dx, dweight, dbias)


class LinearGELU(Function):
    """y = GELU(x W^T + b)

    x (..., I), weight (O, I), bias (O,) or none  ->  y (..., O)
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        x, weight, bias = linear_operands(x, weight, bias)
        (used,) = self.kernels.product_weights(x, [weight])
        y, kept = self.kernels.linear_gelu(x, used, bias, want_derivative=bool(self.parents))
        self.saved = x, weight, used, bias, kept
        return y

    def backward(self, dy: Array) -> tuple[Gradient, ...]:
        x, weight, used, bias, kept = self.saved
        dweight, dbias = self.grad_out(1, weight), None if bias is None else self.grad_out(2, bias)
        dx = self.kernels.linear_gelu_backward(dy, x, used, kept, dweight, dbias, self.needs_input_grad(0))
        return (dx, dweight) if bias is None else (dx, dweight, dbias)


class PackedLinear(Function):
    """Several linear layers of one input, with their outputs concatenated: Q, K and V of attention.

    x (..., I), then K weights (O, I), then K biases (O,) or none  ->  y (..., K * O)
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, *weights_and_biases: Array, n: int) -> Array:
        if len(weights_and_biases) not in (n, 2 * n):
            raise ValueError(f"{n} weights need {n} biases or none, got {len(weights_and_biases) - n}")
        x, *operands = in_one_dtype(x, *weights_and_biases)
        weights, biases = operands[:n], operands[n:]
        for weight, bias in zip(weights, biases or [None] * n, strict=True):
            check_shape("a weight", weight, *weights[0].shape[:1], *x.shape[-1:])
            check_shape("a bias", bias, len(weight))
        used = self.kernels.product_weights(x, weights)
        self.saved = x, weights, used, biases
        return self.kernels.packed_linear(x, used, biases or [None] * n)

    def backward(self, dy: Array) -> list[Gradient]:
        x, weights, used, biases = self.saved
        n = len(weights)
        outs = [self.grad_out(1 + i, a) for i, a in enumerate((*weights, *biases))]
        dweights, dbiases = outs[:n], outs[n:] or [None] * n
        dx = self.kernels.packed_linear_backward(dy, x, used, dweights, dbiases, self.needs_input_grad(0))
        return [dx, *outs]
