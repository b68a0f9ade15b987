"""GELU in one launch, and a linear layer with it: beside the products, one launch each way."""

from __future__ import annotations

import cupy

from ..contract import Array, GradOut
from ..plain import activation as plain
from ..plain.matmul import rows
from .cast import to_bf16, to_float
from .column_sums import THREADS, scratch, tiles
from .launch import BF16, Source, blocks_for, fits, fits_rounded, type_of
from .matmul import linear, linear_backward, products_backward
from .operands import operand, product_kind

SOURCE = Source(
    "activation.cu",
    "gelu<float>",
    "gelu<bf16>",
    "gelu_backward<float>",
    *(f"bias_gelu_backward<{T}, {n}>" for T in ("float", "bf16") for n in (4, 1)),
)
PACK_BYTES = 16  # of x, for each thread


def gelu(x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
    if not fits(x):
        return plain.gelu(x, want_derivative)
    y, derivative = cupy.empty_like(x), cupy.empty_like(x) if want_derivative else None
    _launch_gelu(x, y, derivative)
    return y, derivative


def _launch_gelu(x: Array, y: Array, derivative: Array | None) -> None:
    grid = blocks_for(x.nbytes, THREADS * PACK_BYTES)
    SOURCE.launch(f"gelu<{type_of(x)}>", grid, (THREADS,), x, y, derivative, x.size)


def gelu_backward(dy: Array, derivative: Array) -> Array:
    if not fits(dy, derivative):
        return plain.gelu_backward(dy, derivative)
    dx, grid = cupy.empty_like(dy), blocks_for(dy.nbytes, THREADS * PACK_BYTES)
    SOURCE.launch("gelu_backward<float>", grid, (THREADS,), dy, derivative, dx, dy.size)
    return dx


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_derivative: bool) -> tuple[Array, Array | None]:
    """As in the contract; what is kept is h = x W^T + b, which takes less memory traffic than the derivative."""
    h = linear(x, weight, bias)
    if h.dtype == BF16:
        y = cupy.empty_like(h)
        _launch_gelu(h, y, None)
    else:
        y, _ = gelu(h, False)
    return y, h if want_derivative else None


def linear_gelu_backward(
    dy: Array, x: Array, weight: Array, kept: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    out, accumulate = (None, False) if dbias is None else dbias
    fit = fits(out, None if dweight is None else dweight.array) and fits_rounded(dy, kept, x, weight)
    if not (dy.size and fit):
        derivative = plain.gelu(to_float(kept), True)[1]
        return linear_backward(to_float(dy) * derivative, x, weight, dweight, dbias, want_dx)
    T, dy = ("bf16", to_bf16(dy)) if kept.dtype == BF16 else ("float", to_float(dy))
    n, grid = tiles(dy)
    sums = (None, None) if dbias is None else scratch(n, grid)
    dh = cupy.empty_like(dy)
    arrays = dy, kept, dh, out, accumulate, *sums
    SOURCE.launch(f"bias_gelu_backward<{T}, {n}>", grid, (THREADS,), *arrays, *rows(dy).shape)
    kind = product_kind(len(rows(dh)))
    return products_backward(kind, operand(kind, rows(dh)), x, weight, dweight, want_dx)
