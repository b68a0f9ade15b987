"""Anomaly detection: the operation that first makes finite numbers nan or infinite, and the line that called it.

As PyTorch's torch.autograd.detect_anomaly, but in forward too.  Every result is read, so operations take longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import isfinite
from typing import Any

import numpy as np

from .backend.contract import Array, GradOut
from .backend.select import in_float32, kernels_of
from .errors import NonFiniteError
from .source_line import calling_line

_enabled: ContextVar[bool] = ContextVar("anomaly_detection", default=False)
_called_at: dict[int, str] = {}  # the line that called an operation, by its node's id


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise NonFiniteError, in this block, where an operation or its backward makes finite numbers nan or infinite.

    The error names the operation, the shapes, and the line that called it.  Applies to the current thread.

    >>> import numpy as np
    >>> import nanograd_gpt as ng
    >>> x = ng.Tensor([1.0, 0.0], requires_grad=True)
    >>> with detect_anomaly(), np.errstate(all="ignore"):
    ...     (1 / x).sum()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    nanograd_gpt.errors.NonFiniteError: Div: 1 of the 2 numbers of its result (2,) are nan or infinite, from finite ...
    """
    token = _enabled.set(True)
    try:
        yield
    finally:
        _enabled.reset(token)
        _called_at.clear()


def is_enabled() -> bool:
    """Whether results are checked: True inside detect_anomaly()."""
    return _enabled.get()


def check_forward(node: object, arrays: Sequence[Any], params: Mapping[str, Any], out: Array) -> None:
    """Raise NonFiniteError if an operation's result is not finite and its inputs are."""
    _called_at[id(node)] = calling_line()
    if not (bad := _n_bad(out)) or any(_n_bad(value) for value in (*arrays, *params.values())):
        return
    name, shapes = type(node).__name__, ", ".join(str(getattr(array, "shape", array)) for array in arrays)
    raise NonFiniteError(
        f"{name}: {bad:,} of the {out.size:,} numbers of its result {out.shape} are nan or infinite, from finite "
        f"inputs {shapes}; called at {_called_at[id(node)]}"
    )


def check_backward(node: object, gradients: Sequence[Any], dy: Array) -> None:
    """Raise NonFiniteError if a gradient that an operation's backward returned is not finite and dy is."""
    if _n_bad(dy):
        return
    for i, gradient in enumerate(gradients):
        array = gradient.array if isinstance(gradient, GradOut) else gradient
        if array is not None and (bad := _n_bad(array)):
            raise NonFiniteError(
                f"{type(node).__name__}.backward: {bad:,} of the {array.size:,} numbers of the gradient of input {i}, "
                f"{array.shape}, are nan or infinite, from a finite gradient {dy.shape}; the operation was called at "
                f"{_called_at.get(id(node), 'a line before detection began')}"
            )


def _n_bad(value: Any) -> int:
    """The number of elements that are nan or infinite; 0 for integers, bools, and what is not a number."""
    if isinstance(value, float):
        return not isfinite(value)
    value = in_float32(value)
    if getattr(value, "dtype", None) is None or value.dtype.kind not in "fc":
        return 0
    xp = np if isinstance(value, np.generic) else kernels_of(value).xp
    return int((~xp.isfinite(value)).sum())
