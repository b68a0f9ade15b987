"""Linear layers in the precision in force, each one product by cuBLASLt, as are Q, K and V.

In bf16, results are of bf16, and the gradient of an x is of its dtype.  What is not contiguous, and of float32 or bf16,
takes the plain formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import cupy as xp

from ..contract import Array, GradOut
from ..plain import matmul as plain
from ..plain.matmul import rows
from ..plain.packed import as_contiguous_view, joined_grad_out
from .cast import to_bf16, to_float, without_bfloat16
from .column_sums import column_sums
from .gemm import Kind, gemm
from .launch import BF16
from .operands import empty_like_operand, operand, product_kind, result_dtype

EXACT: dict[Any, Kind] = {xp.dtype(xp.float32): "float32", xp.dtype(xp.float64): "float64"}


def matrix_product(x: Array, y: Array) -> Array:
    """In the arrays' own precision, by cuBLASLt where both are matrices or equal batches of them.

    CuPy's product copies transposed operands of a batch, and cannot be recorded in a CUDA graph.
    """
    kind = EXACT.get(x.dtype)
    batches = y.dtype == x.dtype and min(x.ndim, y.ndim) >= 2 and x.shape[:-2] == y.shape[:-2]
    if kind is None or not batches or x.shape[-1] != y.shape[-2]:
        return plain.matrix_product(x, y)
    a, b = _batch(x), _batch(y)
    out = xp.empty((len(a), a.shape[1], b.shape[2]), dtype=x.dtype)
    gemm(a, b, out, kind)
    return out.reshape(*x.shape[:-1], y.shape[-1])


def _batch(x: Array) -> Array:
    """(..., I, J)  ->  (B, I, J) whose matrices lie by rows or by columns"""
    x = x.reshape(prod(x.shape[:-2]), *x.shape[-2:])
    lies_well = x.flags.c_contiguous or x.swapaxes(1, 2).flags.c_contiguous
    return x if lies_well else xp.ascontiguousarray(x)


def product_weights(x: Array, weights: Sequence[Array]) -> Sequence[Array]:
    """In bf16, rounded once for both ways; neighbours in memory stay neighbours."""
    if product_kind(len(rows(x))) != "bf16" or not _is_float32(weights):
        return weights
    joined = as_contiguous_view(weights)
    if joined is None:
        return [to_bf16(weight) for weight in weights]
    flat, shape, size = to_bf16(joined.reshape(-1)), weights[0].shape, weights[0].size
    return [flat[first : first + size].reshape(shape) for first in range(0, flat.size, size)]


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    if not (_fit([x, weight]) and _is_float32([bias])):
        return plain.linear(to_float(x), to_float(weight), bias)
    x_ = rows(x)
    kind = product_kind(len(x_))
    y = xp.empty((*x.shape[:-1], len(weight)), dtype=result_dtype(kind))
    gemm(operand(kind, x_), operand(kind, weight).T, rows(y), kind, bias=_bias(kind, bias))
    return y


def linear_backward(
    dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    if not (_fit([dy, x, weight]) and _is_float32(_arrays([dweight]))):
        return plain.linear_backward(to_float(dy), to_float(x), to_float(weight), dweight, dbias, want_dx)
    if dbias is not None:
        column_sums(dy, dbias)
    kind = product_kind(len(rows(dy)))
    return products_backward(kind, operand(kind, rows(dy)), x, weight, dweight, want_dx)


def products_backward(
    kind: Kind, dy: Array, x: Array, weight: Array, dweight: GradOut | None, want_dx: bool
) -> Array | None:
    """dy (N, O) in the kind's type, x (..., I), weight (O, I)  ->  dx (..., I) if wanted; writes dweight."""
    if dweight is not None:
        gemm(dy.T, operand(kind, rows(x)), dweight.array, kind, accumulate=dweight.accumulate)
    return _product(kind, dy, weight, x) if want_dx else None


def packed_linear(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
    if not (_fit([x, *weights]) and _is_float32(biases)):
        return plain.packed_linear(to_float(x), without_bfloat16(weights), biases)
    joined, present = as_contiguous_view(weights), [bias for bias in biases if bias is not None]
    if joined is not None and len(present) in (0, len(biases)):
        return linear(x, joined, _joined_vector(present) if present else None)
    kind, width = product_kind(len(rows(x))), len(weights[0])
    y = xp.empty((*x.shape[:-1], len(weights) * width), dtype=result_dtype(kind))
    x_ = operand(kind, rows(x))
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        gemm(x_, operand(kind, weight).T, _part(rows(y), k, width), kind, bias=_bias(kind, bias))
    return y


def packed_linear_backward(
    dy: Array,
    x: Array,
    weights: Sequence[Array],
    dweights: Sequence[GradOut | None],
    dbiases: Sequence[GradOut | None],
    want_dx: bool,
) -> Array | None:
    if not (_fit([dy, x, *weights]) and _is_float32(_arrays(dweights))):
        return plain.packed_linear_backward(
            to_float(dy), to_float(x), without_bfloat16(weights), dweights, dbiases, want_dx
        )
    width, dweight = len(weights[0]), joined_grad_out(dweights)
    kind = product_kind(len(rows(dy)))
    dy_, x_ = operand(kind, rows(dy)), operand(kind, rows(x))
    if dweight is not None:
        gemm(dy_.T, x_, dweight.array, kind, accumulate=dweight.accumulate)
    else:
        for k, part in enumerate(dweights):
            if part is not None:
                gemm(_part(dy_, k, width).T, x_, part.array, kind, accumulate=part.accumulate)
    if any(dbias is not None for dbias in dbiases):
        sums = xp.empty(dy.shape[-1], dtype="f")
        column_sums(dy, GradOut(sums, accumulate=False))
        for k, dbias in enumerate(dbiases):
            if dbias is not None:
                dbias.write(sums[k * width : (k + 1) * width])
    if not want_dx:
        return None
    joined = as_contiguous_view(weights)
    if joined is not None:
        return _product(kind, dy_, joined, x)
    dx = empty_like_operand(kind, x)
    for k, weight in enumerate(weights):
        gemm(_part(dy_, k, width), operand(kind, weight), rows(dx), kind, accumulate=k > 0)
    return dx


def _product(kind: Kind, dy: Array, weight: Array, x: Array) -> Array:
    """dy (N, O) in the kind's type, weight (O, I)  ->  dx (..., I) as x"""
    dx = empty_like_operand(kind, x)
    gemm(dy, operand(kind, weight), rows(dx), kind)
    return dx


def _bias(kind: Kind, bias: Array | None) -> Array | None:
    """A bias in the dtype of the product's result."""
    return None if bias is None else operand(kind, bias)


def _joined_vector(vectors: list[Array]) -> Array:
    """K vectors (O,)  ->  (K * O,), copied only where they are not contiguous"""
    joined = as_contiguous_view(vectors)
    return xp.concatenate(vectors) if joined is None else joined


def _part(packed: Array, k: int, width: int) -> Array:
    """The columns of the k-th layer, as a view (N, width)."""
    return packed[:, k * width : (k + 1) * width]


def _arrays(grad_outs: Iterable[GradOut | None]) -> list[Array | None]:
    return [None if out is None else out.array for out in grad_outs]


def _is_float32(arrays: Iterable[Array | None]) -> bool:
    """Whether all that are given are contiguous and float32."""
    return all(a is None or (a.dtype == xp.float32 and a.flags.c_contiguous) for a in arrays)


def _fit(arrays: Iterable[Array]) -> bool:
    """Whether all are contiguous, and float32 or bf16."""
    return all((a.dtype == xp.float32 or a.dtype == BF16) and a.flags.c_contiguous for a in arrays)
