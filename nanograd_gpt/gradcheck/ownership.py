"""Checks that an operation keeps the engine's memory rules: no writes to shared arrays, correct accumulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..autograd import Function, Leaf
from ..backend.contract import Array, GradOut
from ..backend.select import kernels_of
from ..errors import a_or_an
from ..tensor import Tensor
from .check import GradientError


def check_ownership(op: type[Function], inputs: Sequence[Array], params: Mapping[str, Any]) -> None:
    """Check that each gradient is a new array, a view or dy itself, and that inputs, result and dy are not written to.

    The engine adds to new arrays in place, so they must not share memory.  Raises GradientError; ValueError if no
    input is of float dtype; TypeError for inputs that are not arrays.
    """
    _check_any_float(inputs)
    node = op()
    node.kernels = kernels_of(*inputs)
    node.parents = [Leaf(a.dtype) if a.dtype.kind == "f" else None for a in inputs]
    before = [a.copy() for a in inputs]
    y = np.asarray(node.forward(*inputs, **params))
    before.append(y.copy())
    dy = np.linspace(1.0, 2.0, y.size).reshape(y.shape)
    dy_before = dy.copy()
    others = [*inputs, *_arrays(node.saved)]
    for k, result in enumerate(node.backward(dy)):
        gradient = result.array if isinstance(result, GradOut) else result
        if not isinstance(gradient, np.ndarray) or gradient is dy or gradient.base is not None:
            continue
        if any(np.shares_memory(gradient, other) for other in (dy, *others)):
            raise GradientError(
                f"{op.__name__}: the gradient of input {k} shares memory with another array; "
                "return a new array, a view, or dy"
            )
        others.append(gradient)
    names = [*(f"input {k}" for k in range(len(inputs))), "the result", "dy"]
    for name, now, then in zip(names, (*inputs, y, dy), (*before, dy_before), strict=True):
        if not np.array_equal(now, then, equal_nan=now.dtype.kind == "f"):
            raise GradientError(f"{op.__name__}: {name} was written to")


def _check_any_float(inputs: Sequence[Array]) -> None:
    for k, a in enumerate(inputs):
        if not isinstance(a, np.ndarray):
            raise TypeError(
                f"input {k} is {a_or_an(type(a).__name__)}; give NumPy arrays, as the operation's forward gets them"
            )
    if all(a.dtype.kind != "f" for a in inputs):
        raise ValueError("no input is of float dtype, so none has a gradient to check")


def _arrays(saved: Any) -> list[Array]:
    if isinstance(saved, np.ndarray):
        return [saved]
    if isinstance(saved, tuple | list):
        return [a for part in saved for a in _arrays(part)]
    return []


def check_accumulation(function: Callable[..., Tensor], inputs: Sequence[Array]) -> None:
    """Check that each gradient is the same however it is requested.

    Compares: for one input only; written to a buffer filled with nan; and added to an existing gradient.  Raises
    GradientError; ValueError if no input is of float dtype.
    """
    _check_any_float(inputs)
    expected = _gradients_of(function, inputs, {*range(len(inputs))})
    for k in (i for i, g in enumerate(expected) if g is not None):
        alone = _gradients_of(function, inputs, {k})[k]
        _check_equal(alone, expected[k], f"of input {k} alone")
    nans = [np.full(a.shape, np.nan) for a in inputs]
    for k, g in enumerate(_gradients_of(function, inputs, {*range(len(inputs))}, buffers=nans)):
        _check_equal(g, expected[k], f"of input {k}, into a buffer,")
        if g is not None and g is not nans[k]:
            raise GradientError(f"the gradient of input {k} is not in its buffer")
    ones = [np.ones(a.shape) for a in inputs]
    for k, g in enumerate(_gradients_of(function, inputs, {*range(len(inputs))}, started=ones)):
        first = expected[k]
        _check_equal(g, None if first is None else 1 + first, f"of input {k}, added to an earlier one,")


def _gradients_of(
    function: Callable[..., Tensor],
    inputs: Sequence[Array],
    wanted: set[int],
    buffers: Sequence[Array] | None = None,
    started: Sequence[Array] | None = None,
) -> list[Array | None]:
    tensors = [Tensor(a, requires_grad=k in wanted and a.dtype.kind == "f") for k, a in enumerate(inputs)]
    for k, t in enumerate(tensors):
        if isinstance(t.node, Leaf):
            t.node.buffer = None if buffers is None else buffers[k]
            t.node.grad = None if started is None else started[k]
    out = function(*tensors)
    out.backward(np.linspace(1.0, 2.0, out.size).reshape(out.shape))
    for k, t in enumerate(tensors):
        if t.grad is not None and t.grad.shape != t.shape:
            raise GradientError(
                f"the gradient of input {k} has shape {t.grad.shape}, its input {t.shape}; sum over the broadcast axes"
            )
    return [t.grad for t in tensors]


def _check_equal(gradient: Array | None, expected: Array | None, which: str) -> None:
    if gradient is None or expected is None:
        if gradient is not expected:
            raise GradientError(
                f"the gradient {which} is {'missing' if gradient is None else 'there, but was not requested'}"
            )
    elif not np.allclose(gradient, expected, rtol=1e-13, atol=1e-13 * max(1.0, float(np.abs(expected).max(initial=0)))):
        raise GradientError(f"the gradient {which} differs from the gradient of all at once")
