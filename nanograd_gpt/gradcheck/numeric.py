"""Numeric directional derivatives, from values of the function alone.

Each takes `output`, which recomputes its result from `tensor.data` at every call, and a direction of the tensor's
shape.  Only the complex step is exact to rounding, for it subtracts nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..autograd import Leaf
from ..backend.contract import Array
from ..tensor import Tensor

COMPLEX_STEP = 1e-20  # so small that its square underflows relative to 1


@contextlib.contextmanager
def replaced(tensors: Sequence[Tensor], dtype: type) -> Iterator[None]:
    """Replace the tensors' arrays by copies in dtype, as fresh leaves, in this block."""
    kept = [(t.data, t.node) for t in tensors]
    for t in tensors:
        t.data, t.node = t.data.astype(dtype), Leaf(np.dtype(dtype))
    try:
        yield
    finally:
        for t, (data, node) in zip(tensors, kept, strict=True):
            t.data, t.node = data, node


def complex_step(output: Callable[[], Array], tensor: Tensor, direction: Array) -> Array:
    """Im f(x + ihv) / h, for a tensor that holds complex numbers (Squire and Trapp 1998).

    The function must be analytic: no abs, no conjugate, no max near a tie.
    """
    tensor.data.imag[...] = COMPLEX_STEP * direction
    try:
        derivative = np.imag(output()) / COMPLEX_STEP
    finally:
        tensor.data.imag[...] = 0
    return derivative


def forward_difference(output: Callable[[], Array], tensor: Tensor, direction: Array, step: float = 1e-8) -> Array:
    """(f(x + hv) - f(x)) / h: truncation error of order h, rounding error of order eps / h."""
    return (_at(output, tensor, step * direction) - output()) / step


def central_difference(output: Callable[[], Array], tensor: Tensor, direction: Array, step: float = 6e-6) -> Array:
    """(f(x + hv) - f(x - hv)) / 2h: truncation error of order h^2, rounding error of order eps / h."""
    return (_at(output, tensor, step * direction) - _at(output, tensor, -step * direction)) / (2 * step)


def richardson(output: Callable[[], Array], tensor: Tensor, direction: Array, step: float = 1e-2) -> Array:
    """Central differences at h, h/2 and h/4, combined so that orders h^2 and h^4 cancel (Richardson 1911)."""
    a, b, c = (central_difference(output, tensor, direction, step / k) for k in (1, 2, 4))
    ab, bc = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * bc - ab) / 15


def _at(output: Callable[[], Array], tensor: Tensor, offset: Array) -> Array:
    kept = tensor.data
    tensor.data = kept + offset
    try:
        return output()
    finally:
        tensor.data = kept
