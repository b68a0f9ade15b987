"""Shape operations: views, indexing and joining."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

import numpy as np

from ..autograd import Function, Gradient
from ..backend.contract import Array
from .broadcasting import shape_of, unbroadcast


class Reshape(Function):
    """Reshape; one length may be -1."""

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        self.saved = x.shape
        return x.reshape(shape)

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (dy.reshape(self.saved),)


class Transpose(Function):
    """Permute the axes."""

    __slots__ = ()

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        if len(axes) != x.ndim:
            raise ValueError(
                f"transpose: axes {axes} of shape {x.shape}; transpose takes all axes in their new order, "
                "swapaxes(a, b) swaps two"
            )
        self.saved = tuple(a % x.ndim for a in axes)
        return x.transpose(axes)

    def backward(self, dy: Array) -> tuple[Gradient]:
        back = sorted(range(len(self.saved)), key=self.saved.__getitem__)
        return (dy.transpose(back),)


class BroadcastTo(Function):
    """Broadcast along new axes and axes of length 1."""

    __slots__ = ()

    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        self.saved = shape_of(x)
        return self.kernels.xp.broadcast_to(x, shape)

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (unbroadcast(dy, self.saved),)


class GetItem(Function):
    """x[index], for any NumPy index; an element selected several times sums its gradients."""

    __slots__ = ()

    def forward(self, x: Array, *, index: Any) -> Array:
        self.saved = shape_of(x), index
        return x[index]

    def backward(self, dy: Array) -> tuple[Gradient]:
        xp = self.kernels.xp
        shape, index = self.saved
        dx = xp.zeros(shape, dtype=dy.dtype)
        if selects_unique_elements(index):
            dx[index] = dy
        else:
            xp.add.at(dx, index, dy)
        return (dx,)


def selects_unique_elements(index: Any) -> bool:
    """Whether an index selects no element twice: it consists of slices, integers, masks, ... and None only."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or isinstance(part, int | slice | EllipsisType) or getattr(part, "dtype", None) == np.bool_
        for part in parts
    )


class Concatenate(Function):
    """Join arrays along an existing axis."""

    __slots__ = ()

    def forward(self, *arrays: Array, axis: int) -> Array:
        joined = self.kernels.xp.concatenate(arrays, axis=axis)
        self.saved = [a.shape[axis] for a in arrays], axis
        return joined

    def backward(self, dy: Array) -> list[Gradient]:
        lengths, axis = self.saved
        before = (slice(None),) * (axis % dy.ndim)
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        return [dy[(*before, slice(end - n, end))] for n, end in zip(lengths, ends, strict=True)]


class Stack(Function):
    """Join arrays of one shape along a new axis."""

    __slots__ = ()

    def forward(self, *arrays: Array, axis: int) -> Array:
        self.saved = len(arrays), axis
        return self.kernels.xp.stack(arrays, axis=axis)

    def backward(self, dy: Array) -> list[Gradient]:
        n, axis = self.saved
        before = (slice(None),) * (axis % dy.ndim)
        return [dy[(*before, i)] for i in range(n)]
