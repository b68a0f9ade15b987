"""Linear layers in the precision in force, each one product by cuBLASLt, as are Q, K and V.

What is not contiguous float32 takes the plain formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cupy as xp

from ..contract import Array, GradOut
from ..plain import matmul as plain
from ..plain.matmul import rows
from ..plain.packed import as_contiguous_view, joined_grad_out
from .column_sums import column_sums
from .gemm import Kind, gemm
from .operands import operand, product_kind


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    if not _is_float32([x, weight, bias]):
        return plain.linear(x, weight, bias)
    y = xp.empty((*x.shape[:-1], len(weight)), dtype=x.dtype)
    x_ = rows(x)
    kind = product_kind(len(x_))
    gemm(operand(kind, x_), operand(kind, weight).T, rows(y), kind, bias=bias)
    return y


def linear_backward(
    dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    if not _is_float32([dy, x, weight, *_arrays([dweight])]):
        return plain.linear_backward(dy, x, weight, dweight, dbias, want_dx)
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
    return _product(kind, dy, weight, x.shape) if want_dx else None


def packed_linear(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
    if not _is_float32([x, *weights, *biases]):
        return plain.packed_linear(x, weights, biases)
    joined, present = as_contiguous_view(weights), [bias for bias in biases if bias is not None]
    if joined is not None and len(present) in (0, len(biases)):
        return linear(x, joined, _joined_vector(present) if present else None)
    width = len(weights[0])
    y = xp.empty((*x.shape[:-1], len(weights) * width), dtype=x.dtype)
    kind = product_kind(len(rows(x)))
    x_ = operand(kind, rows(x))
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        gemm(x_, operand(kind, weight).T, _part(rows(y), k, width), kind, bias=bias)
    return y


def packed_linear_backward(
    dy: Array,
    x: Array,
    weights: Sequence[Array],
    dweights: Sequence[GradOut | None],
    dbiases: Sequence[GradOut | None],
    want_dx: bool,
) -> Array | None:
    if not _is_float32([dy, x, *weights, *_arrays(dweights)]):
        return plain.packed_linear_backward(dy, x, weights, dweights, dbiases, want_dx)
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
        sums = xp.empty(dy.shape[-1], dtype=dy.dtype)
        column_sums(dy, GradOut(sums, accumulate=False))
        for k, dbias in enumerate(dbiases):
            if dbias is not None:
                dbias.write(sums[k * width : (k + 1) * width])
    if not want_dx:
        return None
    joined = as_contiguous_view(weights)
    if joined is not None:
        return _product(kind, dy_, joined, x.shape)
    dx = xp.empty(x.shape, dtype=dy.dtype)
    for k, weight in enumerate(weights):
        gemm(_part(dy_, k, width), operand(kind, weight), rows(dx), kind, accumulate=k > 0)
    return dx


def _product(kind: Kind, dy: Array, weight: Array, shape: tuple[int, ...]) -> Array:
    """dy (N, O) in the kind's type, weight (O, I)  ->  dx of this shape (..., I)"""
    dx = xp.empty(shape, dtype=weight.dtype)
    gemm(dy, operand(kind, weight), rows(dx), kind)
    return dx


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
