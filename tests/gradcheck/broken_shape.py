"""Broken rules of the operations on shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.ops.shape import BroadcastTo, Concatenate, GetItem, Reshape, Stack, Transpose

from .broken_rules import Operation, Rule, to


def assigned(dy: Array, x: Array, index: Any) -> tuple[Array]:
    dx = np.zeros(x.shape)
    dx[index] = dy
    return (dx,)


def added_to_ones(dy: Array, x: Array, index: Any) -> tuple[Array]:
    dx = np.ones(x.shape)
    np.add.at(dx, index, dy)
    return (dx,)


def cut(dy: Array, arrays: Sequence[Array], axis: int, shift: int) -> list[Array]:
    """dy cut where the arrays end, `shift` elements too far."""
    ends = np.cumsum([a.shape[axis] for a in arrays])
    return np.split(np.roll(dy, -shift, axis), ends[:-1], axis)


SHAPE: dict[Operation, dict[str, Rule]] = {
    Reshape: {
        "columns first": lambda dy, x, shape: (dy.reshape(x.shape, order="F"),),
        "left in the new shape": lambda dy, x, shape: (dy,),
    },
    Transpose: {
        "not inverted": lambda dy, x, axes: (dy.transpose(axes),),
        "reversed": lambda dy, x, axes: (dy.T,),
        "reshaped": lambda dy, x, axes: (dy.reshape(x.shape),),
    },
    BroadcastTo: {
        "mean for the sum": lambda dy, x, shape: (to(x, dy) * (x.size / max(1, prod(shape))),),
        "the first of the repeated": lambda dy, x, shape: (to(x, np.where(np.indices(dy.shape)[0] == 0, dy, 0)),),
        "new axes alone summed": lambda dy, x, shape: (dy.sum(axis=tuple(range(dy.ndim - x.ndim))),),
    },
    GetItem: {
        "assigned where indices repeat": assigned,
        "added to ones": added_to_ones,
    },
    Concatenate: {
        "offsets one too far": lambda dy, *arrays, axis: cut(dy, arrays, axis, 1),
        "equal lengths assumed": lambda dy, *arrays, axis: np.array_split(dy, len(arrays), axis),
        "order reversed": lambda dy, *arrays, axis: cut(dy, arrays, axis, 0)[::-1],
    },
    Stack: {
        "always the first axis": lambda dy, *arrays, axis: list(dy.reshape(len(arrays), *arrays[0].shape)),
        "order reversed": lambda dy, *arrays, axis: list(np.moveaxis(dy, axis, 0))[::-1],
        "the first for all": lambda dy, *arrays, axis: [np.moveaxis(dy, axis, 0)[0]] * len(arrays),
    },
}  # fmt: skip
