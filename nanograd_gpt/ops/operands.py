"""Checks of operands before a kernel reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..autograd import Function
from ..backend.bfloat16 import is_bfloat16
from ..backend.contract import Array, Keep
from ..backend.select import Device, kernels_of, to_device
from ..rule_checks import NUMERIC

NUMBERS = frozenset({float, int, bool, complex})
PLAIN = NUMBERS | {np.ndarray}  # types of operands that are used as they are


def as_array(data: Any, device: Device = "cpu") -> Array:
    """An array unchanged, on whichever device; numbers and lists as an array on `device`."""
    array = data
    if isinstance(data, bool | int | float | complex | list | tuple | np.generic):
        array = to_device(np.asarray(data), device)
    try:
        kernels_of(array)
    except TypeError:
        if hasattr(data, "requires_grad"):
            raise TypeError("expected an array, got a Tensor; its array is .data") from None
        raise
    if array.dtype.kind not in NUMERIC and (isinstance(array, np.ndarray) or not is_bfloat16(array.dtype)):
        raise TypeError(f"a Tensor holds numbers or bools, got an array of {array.dtype}")
    return array


def as_operand(operation: type[Function] | str, operands: Sequence[Any], value: Any) -> Any:
    """One of an operation's operands: a list of numbers as an array, arrays and numbers unchanged.

    Raises TypeError for anything else.
    """
    if isinstance(value, list | tuple):
        with suppress(ValueError):  # of rows of different lengths
            array = np.asarray(value)
            if array.dtype.kind in NUMERIC:
                return array
    elif isinstance(value, int | float | complex) or hasattr(value, "dtype"):
        return value
    i = next(i for i, operand in enumerate(operands) if operand is value)
    raise TypeError(
        f"{getattr(operation, '__name__', operation)}: operand {i} is {repr(value)[:60]}, a {type(value).__name__}; "
        "give a Tensor, an array, a number or a list of numbers"
    )


def numbers_as_arrays(operation: type[Function], operands: list[Any], params: Mapping[str, Any]) -> list[Any]:
    """Operands with plain numbers as 0-d arrays, of the dtype that promotion gives a number beside the other operands.

    An operation that takes numbers converts them only if none of its operands is an array.
    """
    dtypes = [a.dtype for a in operands if hasattr(a, "dtype")]
    if operation.takes_numbers and dtypes:
        return operands
    xp = kernels_of(*operands, *params.values()).xp if dtypes or _has_array(params) else np
    return [a if hasattr(a, "dtype") else xp.asarray(a, dtype=np.result_type(a, *dtypes)) for a in operands]


def _has_array(params: Mapping[str, Any]) -> bool:
    return any(hasattr(value, "dtype") for value in params.values())


def in_one_dtype(*arrays: Any) -> Sequence[Any]:
    """The arrays cast to their common dtype by NumPy's promotion; None stays None, and bfloat16 beside float32 too.

    Raises TypeError unless that dtype is float or complex.
    """
    first = arrays[0].dtype
    if any(a is not None and a.dtype is not first for a in arrays):
        first = np.result_type(*(a.dtype for a in arrays if a is not None))
        arrays = tuple(a if a is None or is_bfloat16(a.dtype) else a.astype(first, copy=False) for a in arrays)
    _check_kind(first)
    return arrays


def check_floating(x: Array) -> Array:
    """Return x.  Raises TypeError unless it is float or complex."""
    _check_kind(x.dtype)
    return x


def _check_kind(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fc" and not is_bfloat16(dtype):
        raise TypeError(f"expected floating-point numbers, got {dtype}; use .astype(numpy.float32)")


def check_shape(what: str, array: Array | None, *expected: int) -> None:
    """Raise ValueError unless an operand is None or has exactly this shape, without broadcasting."""
    if array is not None and array.shape != expected:
        raise ValueError(f"{what} has shape {array.shape}, expected {expected}")


def check_keep(keep: Keep | None, rate: float, *expected: int) -> None:
    """Raise unless dropout's mask is None or bools of this shape, and the rate is in [0, 1)."""
    if not 0 <= rate < 1:  # False for nan
        raise ValueError(f"the dropout rate is {rate}, expected a number in [0, 1)")
    check_shape("keep", keep, *expected)
    if keep is not None and keep.dtype != np.bool_:
        raise TypeError(f"keep is of {keep.dtype}, expected bools")


def call_text(name: str, arrays: Sequence[Any], params: Mapping[str, Any]) -> str:
    """A call of an operation for a message: name(float32[2, 3], axis=1)."""
    return f"{name}({', '.join([*map(_described, arrays), *(f'{k}={_described(v)}' for k, v in params.items())])})"


def _described(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else repr(value)
