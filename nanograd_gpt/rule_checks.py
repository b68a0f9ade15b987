"""Checks of what an operation's rules return: an array from forward, one gradient per input from backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .anomaly import check_backward, check_forward, is_enabled
from .backend.bfloat16 import is_bfloat16
from .backend.select import kernels_of

NUMERIC = "biufc"  # kinds of dtype that a Tensor holds


def check_result(node: object, arrays: Sequence[Any], params: Mapping[str, Any], out: Any) -> None:
    """Raise TypeError unless the result of a forward is an array of numbers or bools, or a NumPy scalar of such.

    Within detect_anomaly(), raise NonFiniteError if it is not finite and the inputs are.
    """
    if type(out) is np.ndarray and out.dtype.kind in NUMERIC and not is_enabled():
        return  # the usual case first: this runs for every operation
    name = type(node).__name__
    if not isinstance(out, np.generic):
        try:
            kernels_of(out)
        except TypeError:
            hint = "; inside forward, use NumPy's functions on the arrays" if hasattr(out, "data") else ""
            raise TypeError(f"{name}.forward returned a {type(out).__name__}; return one array{hint}") from None
    if out.dtype.kind not in NUMERIC and not is_bfloat16(out.dtype):
        raise TypeError(f"{name}: the result is an array of {out.dtype}; a Tensor holds numbers or bools")
    if is_enabled():
        check_forward(node, arrays, params, out)


def check_returned(node: object, gradients: Any, n_inputs: int, dy: Any) -> None:
    """Raise TypeError unless a backward returned a tuple or list of one gradient per input.

    Within detect_anomaly(), raise NonFiniteError if one is not finite and dy is.
    """
    if not isinstance(gradients, tuple | list):
        kind = "an array" if hasattr(gradients, "dtype") else type(gradients).__name__
        raise TypeError(f"backward returned {kind}; return a tuple with one gradient per input")
    if len(gradients) != n_inputs:
        raise TypeError(f"{len(gradients)} gradients were returned for {n_inputs} inputs")
    if is_enabled():
        check_backward(node, gradients, dy)
