"""Validation of numbers and flags from the user, which become Python's int, float and bool.

NumPy scalars are accepted but converted: JSON cannot encode them, and their precision and overflow would carry over
into every result computed from them.
"""

from __future__ import annotations

from math import inf
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from .errors import InputError


def whole_number(name: str, value: Any, least: float = -inf, most: float = inf, allowed: str | None = None) -> int:
    """An integer in least .. most as an int, from NumPy's too.  Raises InputError for others, such as floats and bools.

    allowed: the end of the message "choose ..."; by default it states the bounds.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise not_allowed(name, value, allowed or f"a whole number{_bounds(least, most)}")
    return number


def as_python_scalar(value: Any) -> Any:
    """A NumPy scalar or 0-d array as a Python number; anything else unchanged."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return value.item() if isinstance(value, np.generic) else value


def real_number(name: str, value: Any, allowed: str = "a number") -> float:
    """A number as a float, from NumPy's too; nan and infinity are allowed.  Raises InputError for others."""
    number = as_python_scalar(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise not_allowed(name, value, allowed)
    try:
        return float(number)
    except OverflowError:
        raise not_allowed(name, value, allowed) from None


def dropout_rate(name: str, value: Any) -> float:
    """A number in [0, 1) as a float, from NumPy's too.  Raises InputError for others."""
    number = real_number(name, value, "a number in [0, 1)")
    if not 0 <= number < 1:  # False for nan
        raise not_allowed(name, value, "a number in [0, 1)")
    return number


def flag(name: str, value: Any) -> bool:
    """A bool, from NumPy's too.  Raises InputError for others."""
    answer = as_python_scalar(value)
    if not isinstance(answer, bool):
        raise not_allowed(name, value, "True or False")
    return answer


def for_json(value: Any) -> Any:
    """The `default` of json.dumps: NumPy's numbers as Python's.  Raises TypeError for what JSON cannot encode."""
    number = as_python_scalar(value)
    if not isinstance(number, bool | int | float):
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
    return number


def not_allowed(name: str, value: Any, allowed: str) -> InputError:
    """An InputError "name: value is not allowed; choose ...", with NumPy's numbers written as Python's."""
    return InputError(f"{name}: {shown(value)} is not allowed; choose {allowed}")


def shown(value: Any) -> str:
    """A value in at most 80 characters of one line, for an error."""
    try:
        text = " ".join(repr(as_python_scalar(value)).split())
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) < 80 else text[:77] + "..."


def _bounds(least: float, most: float) -> str:
    if most < inf:
        return f" {least} .. {most}"
    return f" >= {least}" if least > -inf else ""
