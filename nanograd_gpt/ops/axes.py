"""Axes of reductions."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar, cast

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..backend.contract import Array, Axis

P = ParamSpec("P")
R = TypeVar("R")
NUMPYS_NAME = {"dim": "axis", "keepdim": "keepdims"}  # by PyTorch's


def checked_axes(axis: Axis, ndim: int) -> Axis:
    """The axes as unique non-negative integers, None for all; a 0-d array may be reduced along 0 or -1.

    Raises numpy.exceptions.AxisError or ValueError, as NumPy's reductions do.
    """
    if axis is None or (ndim == 0 and axis in (0, -1, (0,), (-1,))):
        return None
    return normalize_axis_tuple(axis, ndim)


def with_reduced_axes(reduced: Array, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """Reshape a reduction's result to what keepdims=True gives, so that it broadcasts to the input's shape."""
    if keepdims:
        return reduced
    ones = range(len(shape)) if axis is None else {a % len(shape) for a in ([axis] if isinstance(axis, int) else axis)}
    return reduced.reshape(tuple(1 if i in ones else n for i, n in enumerate(shape)))


def unpacked(numbers: tuple[int | tuple[int, ...], ...]) -> tuple[int, ...]:
    """(2, 3) for both f(2, 3) and f((2, 3))."""
    if len(numbers) == 1 and isinstance(numbers[0], tuple | list):
        return tuple(numbers[0])
    return cast("tuple[int, ...]", numbers)  # NumPy raises for anything else


def check_not_pytorchs(axes: tuple[int | tuple[int, ...], ...], ndim: int) -> None:
    """Raise TypeError for a matrix's two axes in their own order, given to transpose() one by one.

    In NumPy they change nothing, which nobody writes; in PyTorch they are swapped.  One tuple (0, 1) is NumPy's alone.
    """
    if len(axes) == ndim == 2 and axes in ((0, 1), (-2, -1), (0, -1), (-2, 1)):
        raise TypeError(
            f"transpose{axes} of a matrix: in NumPy, and here, these are all axes in their new order, so nothing would "
            "change; to swap the two, as in PyTorch, write x.T or x.swapaxes(0, 1)"
        )


def takes_dim(function: Callable[P, R]) -> Callable[P, R]:
    """Let dim= and keepdim= stand for axis= and keepdims=; a call that gives both raises TypeError.

    The function declares the former as keywords for its signature, and reads the latter alone.
    A keepdims that is not a bool raises TypeError too: in x.mean(1, 2) it is meant as a second axis.
    """
    parameters = list(signature(function).parameters)
    place = parameters.index("keepdims") if "keepdims" in parameters else len(parameters)

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        for theirs, ours in NUMPYS_NAME.items():
            if theirs in kwargs and theirs in parameters:
                if ours in kwargs or len(args) > parameters.index(ours):
                    raise TypeError(f"{function.__name__}: {ours} and {theirs} are one argument; give one of them")
                kwargs[ours] = kwargs.pop(theirs)
        keepdims = args[place] if len(args) > place else kwargs.get("keepdims", False)
        if not isinstance(keepdims, bool | np.bool_):
            raise TypeError(
                f"{function.__name__}: keepdims: {keepdims!r} is not a bool; several axes are a tuple, (1, 2)"
            )
        return function(*args, **kwargs)

    return called
