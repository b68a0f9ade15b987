"""GELU in blocks, in place where possible.  The formula is plain/activation.py's."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut
from ..plain.activation import CUBIC, ROOT
from ..plain.matmul import rows
from .blocks import BLOCK_ELEMENTS, SHARED_BLOCK_ELEMENTS, blocks, flat, for_each_block, rows_per_block
from .matmul import SKINNY_ROWS, Product, Tile, linear, linear_backward, multiply

COST = 20  # of an element with its derivative, in multiplications


def gelu(x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
    y = np.empty(x.shape, dtype=x.dtype)
    derivative = np.empty(x.shape, dtype=x.dtype) if want_derivative else None
    x_, y_, derivative_ = flat(x), y.reshape(-1), None if derivative is None else derivative.reshape(-1)

    def body(block: slice) -> None:
        _gelu(x_[block], y_[block], None if derivative_ is None else derivative_[block])

    for_each_block(x.size, COST, body)
    return y, derivative


def linear_gelu(x: Array, weight: Array, bias: Array | None, want_derivative: bool) -> tuple[Array, Array | None]:
    if len(rows(x)) < SKINNY_ROWS:
        return gelu(linear(x, weight, bias), want_derivative)
    h = np.empty((*x.shape[:-1], len(weight)), dtype=np.result_type(x.dtype, weight.dtype))
    y = np.empty_like(h)
    h_, y_ = rows(h), rows(y)

    def activate(tile: Tile) -> None:
        h_tile, y_tile = h_[tile], y_[tile]
        block_elements = SHARED_BLOCK_ELEMENTS if len(h_tile) < len(h_) else BLOCK_ELEMENTS
        for block in blocks(len(h_tile), rows_per_block(h_tile.shape[1], block_elements)):
            if bias is not None:
                h_tile[block] += bias[tile[1]]
            h_block = h_tile[block]
            _gelu(h_block, y_tile[block], h_block if want_derivative else None)  # the derivative overwrites h

    multiply([Product(rows(x), weight.T, h_, activate, in_rows=True)])
    return y, h if want_derivative else None


def linear_gelu_backward(
    dy: Array, x: Array, weight: Array, kept: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
) -> Array | None:
    return linear_backward(gelu_backward(dy, kept), x, weight, dweight, dbias, want_dx)


def gelu_backward(dy: Array, derivative: Array) -> Array:
    dx = np.empty(dy.shape, dtype=np.result_type(dy.dtype, derivative.dtype))
    a, b, out = flat(dy), flat(derivative), dx.reshape(-1)
    for_each_block(dy.size, 2, lambda block: np.multiply(a[block], b[block], out=out[block]))
    return dx


def _gelu(x: Array, y: Array, derivative: Array | None) -> None:
    """Fill y, and derivative if given; derivative may be x itself."""
    square = x * x
    half = square * (ROOT * CUBIC)
    half += ROOT
    half *= x
    np.tanh(half, out=half)
    half += 1
    half *= 0.5  # (1 + tanh) / 2
    np.multiply(x, half, out=y)
    if derivative is None:
        return
    square *= 6 * ROOT * CUBIC
    square += 2 * ROOT
    square *= x  # 2 x d(inner)/dx
    square *= half
    np.subtract(1, half, out=derivative)
    square *= derivative
    np.add(square, half, out=derivative)
