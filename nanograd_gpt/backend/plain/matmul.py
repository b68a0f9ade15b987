"""Linear layers: y = x W^T + b, one or several packed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..array_namespace import array_namespace
from ..contract import Array, GradOut


def rows(x: Array) -> Array:
    """(..., C) -> (N, C)"""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])  # -1 is undetermined where C is 0


def without_bfloat16(arrays: Sequence[Any]) -> Sequence[Any]:
    return arrays  # none is of it


def product_weights(x: Array, weights: Sequence[Array]) -> Sequence[Array]:
    del x
    return weights


def matrix_product(x: Array, y: Array) -> Array:
    return x @ y


def gemm_into(grad_out: GradOut, a: Array, b: Array) -> None:
    """Write or add a @ b; written straight into grad_out's memory."""
    if grad_out.accumulate:
        grad_out.write(a @ b)
    else:
        array_namespace(a).matmul(a, b, out=grad_out.array)


def matmul(x: Array, matrix: Array) -> Array:
    """x (..., I), matrix (I, O)  ->  (..., O), as one product of two matrices"""
    xp = array_namespace(x)
    y = xp.empty((*x.shape[:-1], matrix.shape[1]), dtype=xp.result_type(x.dtype, matrix.dtype))
    xp.matmul(rows(x), matrix, out=rows(y))
    return y


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    y = matmul(x, weight.T)
    if bias is not None:
        y += bias
    return y


def linear_backward(
    dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    if dweight is not None:
        gemm_into(dweight, rows(dy).T, rows(x))
    if dbias is not None:
        dbias.write(rows(dy).sum(axis=0))
    return matmul(dy, weight) if want_dx else None


def packed_linear(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
    outputs = [linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    return array_namespace(x).concatenate(outputs, axis=-1)


def packed_linear_backward(
    dy: Array,
    x: Array,
    weights: Sequence[Array],
    dweights: Sequence[GradOut | None],
    dbiases: Sequence[GradOut | None],
    want_dx: bool,
) -> Array | None:
    dx, width = None, weights[0].shape[0]
    for k, weight in enumerate(weights):
        dy_k = dy[..., k * width : (k + 1) * width]
        dx_k = linear_backward(dy_k, x, weight, dweights[k], dbiases[k], want_dx)
        dx = dx_k if dx is None or dx_k is None else dx + dx_k
    return dx
