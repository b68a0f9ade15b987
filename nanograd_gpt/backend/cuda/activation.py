"""GELU in one launch, and a linear layer with it: beside the products, one launch each way."""

from __future__ import annotations

import cupy

from ..contract import Array, GradOut
from ..plain import activation as plain
from ..plain.matmul import rows
from .column_sums import THREADS, scratch, tiles
from .launch import Source, blocks_for, fits
from .matmul import linear, linear_backward

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
    SOURCE.launch("gelu<float>", blocks_for(x.size, THREADS * PER_THREAD), (THREADS,), x, y, derivative, x.size)
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
    if not (dy.size and fits(dy, kept, out)):
        derivative = plain.gelu(kept, True)[1]
        return linear_backward(dy * derivative, x, weight, dweight, dbias, want_dx)
    dh, (n, grid) = cupy.empty_like(dy), tiles(dy)
    sums = (None, None) if dbias is None else scratch(n, grid)
    arrays = dy, kept, dh, out, accumulate, *sums
    SOURCE.launch(f"bias_gelu_backward<float, {n}>", grid, (THREADS,), *arrays, *rows(dy).shape)
    return linear_backward(dh, x, weight, dweight, None, want_dx)
