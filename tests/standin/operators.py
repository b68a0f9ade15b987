"""The special methods of cupy.ndarray: dispatch of operators, and the methods that make the host wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .record import record

Method = Callable[..., Any]


def operator(name: str) -> tuple[Method, Method, Method]:
    """x + y, y + x and x += y for one of NumPy's ufuncs."""

    def forward(self: Any, other: Any) -> Any:
        if other_decides(self, other):
            return NotImplemented
        return getattr(np, name)(self, other)  # as CuPy does: NumPy then asks __array_ufunc__

    def reflected(self: Any, other: Any) -> Any:
        return ufunc(name)(other, self)

    def in_place(self: Any, other: Any) -> Any:
        return ufunc(name)(self, other, self)

    return forward, reflected, in_place


def comparison(name: str) -> Method:
    def compare(self: Any, other: Any) -> Any:
        if other_decides(self, other):
            return NotImplemented
        has_no_equality = getattr(type(other), "__eq__", None) is object.__eq__
        if name in ("equal", "not_equal") and (other is None or has_no_equality):
            answer = type(self)(self.shape, bool)  # no element equals a mere object
            answer.fill(name == "not_equal")
            return answer
        if isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()  # allowed here, and refused in arithmetic
        return getattr(np, name)(self, other)

    return compare


def conversion(name: str, convert: Method) -> Method:
    """A special method that needs the values on the host."""

    def converted(self: Any, *args: Any) -> Any:
        record.sync(name)
        return convert(self._host, *args)

    return converted


def other_decides(self: Any, other: Any) -> bool:
    """Whether CuPy leaves an operator to the other operand: its `__array_ufunc__` decides, else its priority."""
    if isinstance(other, type(self)):
        return False
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return getattr(other, "__array_priority__", 0) > self.__array_priority__


def ufunc(name: str) -> Any:
    """One of the stand-in's ufuncs."""
    from .ufuncs import named  # they are made of arrays, and arrays of this module

    return named(name)
