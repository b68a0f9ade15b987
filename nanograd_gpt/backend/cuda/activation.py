"""GELU in one launch, and a linear layer with it: beside the products, one launch each way."""

from __future__ import annotations

import cupy

from ..contract import Array, GradOut
from ..plain import activation as plain
from ..plain.matmul import rows
from .cast import remember
from .column_sums import THREADS, scratch, tiles
from .launch import Source, blocks_for, fits
from .matmul import linear, linear_backward, products_backward
from .operands import product_kind

SOURCE = Source(
    "activation.cu",
    "gelu<float>",
    "gelu_backward<float>",
    "bias_gelu_backward<float, 4>",
    "bias_gelu_backward<float, 1>",
)
PER_THREAD = 4


def gelu(x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
    if not fits(x):
        return plain.gelu(x, want_derivative)
    y, derivative = cupy.empty_like(x), cupy.empty_like(x) if want_derivative else None
    rounded = cupy.empty(x.shape, dtype="H") if x.ndim and product_kind(len(rows(x))) == "bf16" else None
    grid = blocks_for(x.size, THREADS * PER_THREAD)
    SOURCE.launch("gelu<float>", grid, (THREADS,), x, y, derivative, rounded, x.size)
    if rounded is not None:
        remember(y, rounded)
    return y, derivative


def gelu_backward(dy: Array, derivative: Array) -> Array:
    if not fits(dy, derivative):
        return plain.gelu_backward(dy, derivative)
    dx, grid = cupy.empty_like(dy), blocks_for(dy.size, THREADS * PER_THREAD)
    SOURCE.launch("gelu_backward<float>", grid, (THREADS,), dy, derivative, dx, dy.size)
    return dx


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_derivative: bool) -> tuple[Array, Array | None]:
    """As in the contract; what is kept is h = x W^T + b, which takes less memory traffic than the derivative."""
    h = linear(x, weight, bias)
    return gelu(h, False)[0], h if want_derivative else None


def linear_gelu_backward(
    dy: Array, x: Array, weight: Array, kept: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    out, accumulate = (None, False) if dbias is None else dbias
    if not (dy.size and fits(dy, kept, out, x, weight, None if dweight is None else dweight.array)):
        derivative = plain.gelu(kept, True)[1]
        return linear_backward(dy * derivative, x, weight, dweight, dbias, want_dx)
    n, grid = tiles(dy)
    sums = (None, None) if dbias is None else scratch(n, grid)
    kind = product_kind(len(rows(dy)))
    dh = cupy.empty(dy.shape, dtype="H" if kind == "bf16" else "f")
    outs = (None, dh) if kind == "bf16" else (dh, None)
    arrays = dy, kept, *outs, out, accumulate, *sums
    SOURCE.launch(f"bias_gelu_backward<float, {n}>", grid, (THREADS,), *arrays, *rows(dy).shape)
    return products_backward(kind, rows(dh), x, weight, dweight, want_dx)
