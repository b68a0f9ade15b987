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


def real_number(name: str, value: Any, allowed: str = "a number") -> float:
    """A number, NumPy's too, as a float; nan and infinity are left to the caller.  Raises InputError for others."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, Real):
        raise not_allowed(name, value, allowed)
    try:
        return float(value)
    except OverflowError:
        raise not_allowed(name, value, allowed) from None


def flag(name: str, value: Any) -> bool:
    """A bool, NumPy's too, as Python's.  Raises InputError for others."""
    if not isinstance(value, bool | np.bool_):
        raise not_allowed(name, value, "True or False")
    return bool(value)


def not_allowed(name: str, value: Any, allowed: str) -> InputError:
    """The error about a value that cannot be; a number of NumPy's reads as Python's."""
    shown = value.item() if isinstance(value, np.generic) else value
    text = " ".join(repr(shown).split())
    return InputError(f"{name}: {text if len(text) < 80 else text[:77] + '...'} is not allowed; choose {allowed}")


def _bounds(least: float, most: float) -> str:
    if most < inf:
        return f" {least} .. {most}"
    return f" >= {least}" if least > -inf else ""
