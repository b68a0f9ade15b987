"""Numbers and flags that a person gives: checked for their kind, and made Python's own.

A NumPy scalar is taken for what it is, but never kept: JSON does not know it, and it would bring its precision and its
overflow into what is reckoned from it.
"""

from __future__ import annotations

from math import inf
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from .errors import InputError


def whole_number(name: str, value: Any, least: float = -inf, most: float = inf, allowed: str | None = None) -> int:
    """An integer in least .. most, NumPy's too, as an int.  Raises InputError for others, floats and bools among them.

    `allowed` ends the message "choose ..." where the bounds say too little.
    """
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise not_allowed(name, value, allowed or f"a whole number{_bounds(least, most)}")
    return number


def as_python_scalar(value: Any) -> Any:
    """A NumPy scalar, or an array of no dimensions, as Python's number; anything else as it is."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return value.item() if isinstance(value, np.generic) else value


def real_number(name: str, value: Any, allowed: str = "a number") -> float:
    """A number, NumPy's too, as a float; nan and infinity are left to the caller.  Raises InputError for others."""
    number = as_python_scalar(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise not_allowed(name, value, allowed)
    try:
        return float(number)
    except OverflowError:
        raise not_allowed(name, value, allowed) from None


def dropout_rate(name: str, value: Any) -> float:
    """A number in [0, 1), NumPy's too, as a float.  Raises InputError for others."""
    number = real_number(name, value, "a number in [0, 1)")
    if not 0 <= number < 1:  # nan is not either
        raise not_allowed(name, value, "a number in [0, 1)")
    return number


def flag(name: str, value: Any) -> bool:
    """A bool, NumPy's too, as Python's.  Raises InputError for others."""
    answer = as_python_scalar(value)
    if not isinstance(answer, bool):
        raise not_allowed(name, value, "True or False")
    return answer


def for_json(value: Any) -> Any:
    """For json.dumps, as its `default`: NumPy's numbers as Python's.  Raises TypeError for what JSON cannot hold."""
    number = as_python_scalar(value)
    if not isinstance(number, bool | int | float):
        raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")
    return number


def not_allowed(name: str, value: Any, allowed: str) -> InputError:
    """The error about a value that cannot be; a number of NumPy's reads as Python's."""
    text = " ".join(repr(as_python_scalar(value)).split())
    return InputError(f"{name}: {text if len(text) < 80 else text[:77] + '...'} is not allowed; choose {allowed}")


def _bounds(least: float, most: float) -> str:
    if most < inf:
        return f" {least} .. {most}"
    return f" >= {least}" if least > -inf else ""
