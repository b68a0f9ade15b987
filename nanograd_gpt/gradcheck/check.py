"""Comparison of backward with numeric derivatives: along random directions, and the whole Jacobian if it is small.

Errors are relative to the norm of an input's whole gradient, not elementwise: a small element carries the rounding
errors of its larger neighbours.  For the same reason, the error of an input whose gradient vanishes (such as a key's
bias, which softmax cancels) is relative to a thousandth of the largest gradient among the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..backend.contract import Array
from ..grad_mode import no_grad
from ..tensor import Tensor
from .messages import KINKS, check_arguments, checked_leaves, element_text, uses_text
from .numeric import COMPLEX_STEP, central_difference, complex_step, replaced

Method: TypeAlias = Literal["complex step", "central"]
Function: TypeAlias = Callable[..., Tensor]

MAX_JACOBIAN_SIZE = 100  # inputs and outputs, up to which the whole Jacobian is compared
VANISHING_RATIO = 1e-3  # of the largest gradient's norm: the least scale of an error
TOLERANCE: dict[Method, float] = {"complex step": 1e-12, "central": 1e-8}


class GradientError(AssertionError):
    """A gradient by backward differs from the numeric one."""


def check_gradients(
    function: Function,
    inputs: Sequence[npt.ArrayLike],
    *,
    method: Method = "complex step",
    tolerance: float | None = None,
    directions: int = 3,
    seed: int = 0,
    name: str = "function",
) -> float:
    """Check the gradients of a function of Tensors at these inputs; returns the worst relative error.

    function: takes one argument per input and returns a Tensor of any shape; it must be deterministic.
    inputs: arrays, lists or numbers.  Floats are passed as float64 Tensors and differentiated, integers and bools are
        passed unchanged; an array given twice is one Tensor used twice.
    method: "complex step" (default), exact to rounding, for analytic functions; "central" differences for others.
    tolerance: largest relative error allowed, > 0; by default 1e-12 for the complex step, 1e-8 for "central".
    directions: number of random directions, >= 1, default 3.  Small functions are also compared element by element.
    seed: seed of the directions, default 0.
    name: name of the function in error messages.

    Raises GradientError, with the input, both values and, for small functions, the element, above the tolerance;
    TypeError for inputs that are not numbers and for a function or inputs of the wrong kind; ValueError if there is
    nothing to compare: no floats, no elements or no directions.

    >>> from nanograd_gpt.gradcheck import check_gradients
    >>> worst = check_gradients(lambda x, y: (x * y).tanh(), [[0.5, -1.0, 2.0], 0.25])
    >>> worst < 1e-12
    True
    """
    check_arguments(name, function, inputs)
    leaves: dict[str, Tensor] = {}
    tensors: dict[int, Tensor] = {}
    arguments: list[Any] = []
    for i, given in enumerate(inputs):
        array = given if isinstance(given, np.ndarray) else np.asarray(given)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: input {i} is {type(given).__name__} of {array.dtype}; give floats or integers")
        if array.dtype.kind == "f" and id(array) not in tensors:
            tensor = Tensor(array.astype(np.float64, copy=False), requires_grad=True)
            tensors[id(array)] = leaves[f"input {i}"] = tensor
        arguments.append(tensors.get(id(array), given))
    return check_function(
        lambda: function(*arguments),
        leaves,
        method=method,
        tolerance=tolerance,
        directions=directions,
        seed=seed,
        name=name,
    )


def check_function(
    output: Callable[[], Tensor],
    leaves: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    *,
    method: Method = "complex step",
    tolerance: float | None = None,
    directions: int = 3,
    exhaustive: bool = False,
    seed: int = 0,
    name: str = "function",
) -> float:
    """Check the gradients of output() by `leaves`, such as model.named_parameters(); returns the worst error.

    exhaustive: compare every element of every leaf, at one evaluation each; `directions` may then be 0.
    For the other arguments and the errors raised see check_gradients.
    """
    leaves = checked_leaves(name, output, leaves)
    if method not in TOLERANCE:
        raise ValueError(f"{name}: method {method!r} is unknown; choose one of {', '.join(TOLERANCE)}")
    if directions < (0 if exhaustive else 1):
        raise ValueError(f"{name}: {directions} directions compare nothing; choose 1 or more")
    if not any(t.size for t in leaves.values()):
        raise ValueError(f"{name}: no input has an element of float dtype, so none has a gradient to check")
    limit = TOLERANCE[method] if tolerance is None else tolerance
    rng = np.random.default_rng(seed)
    worst = 0.0
    for place, by_backward, by_numbers, scale, shapes in _comparisons(
        output, leaves, method, directions, exhaustive, rng, name
    ):
        difference = _norm(by_backward - by_numbers)
        error = 0.0 if difference == 0 else difference / scale if scale else np.inf
        if not error <= limit:  # nan fails
            at = np.argmax(np.abs(np.ravel(by_backward - by_numbers)))
            raise GradientError(
                f"{name}: gradient of {place}{element_text(int(at), shapes)}: "
                f"{np.ravel(by_backward)[at]:.15g} by backward, {np.ravel(by_numbers)[at]:.15g} by {method}; "
                f"relative error {error:.1e} is above {limit:.0e}{KINKS if method == 'complex step' else ''}"
            )
        worst = max(worst, error)
    return worst


Shapes: TypeAlias = tuple[tuple[int, ...], ...]  # of the input and, in a Jacobian, the result; () for a direction
Comparison: TypeAlias = tuple[str, Array, Array, float, Shapes]  # place, by backward, numeric, scale of the error


def _comparisons(
    output: Callable[[], Tensor],
    leaves: Mapping[str, Tensor],
    method: Method,
    directions: int,
    exhaustive: bool,
    rng: np.random.Generator,
    name: str,
) -> Iterator[Comparison]:
    tensors = list(leaves.values())
    with replaced(tensors, np.float64):
        shape = _shape_of_a_pure_function(output, tensors, name)
        if 0 in shape:
            raise ValueError(f"{name}: the result has shape {shape} and no elements, so it has no gradient to check")
        weights = rng.standard_normal(shape)  # project the output onto a scalar
        projected = _gradients(output, tensors, weights)
        jacobians = {k: _jacobian(output, tensors, k, shape) for k in _with_small_jacobian(tensors, shape)}
    least = VANISHING_RATIO * max(map(_norm, projected), default=0.0)
    derivative = complex_step if method == "complex step" else central_difference

    def numbers() -> Array:
        with no_grad():
            return output().data

    with replaced(tensors, np.complex128 if method == "complex step" else np.float64):
        for k, (place, tensor) in enumerate(leaves.items()):
            g = projected[k]
            scale = max(_norm(g), least)
            if k in jacobians:  # first, as it finds the element
                columns = [derivative(numbers, tensor, unit).ravel() for unit in _unit_vectors(tensor.shape)]
                numeric, largest = np.reshape(columns, (tensor.size, -1)), max(_norm(jacobians[k]), least)
                yield place, jacobians[k], numeric, largest, (tensor.shape, shape)
            for _ in range(directions):
                v = rng.choice([-1.0, 1.0], tensor.shape)
                along = np.asarray((weights * derivative(numbers, tensor, v)).sum())
                yield f"{place} along a random direction", np.asarray((g * v).sum()), along, scale, ()
            if exhaustive:
                each = [(weights * derivative(numbers, tensor, unit)).sum() for unit in _unit_vectors(tensor.shape)]
                yield place, g, np.reshape(each, tensor.shape), scale, (tensor.shape,)


def _shape_of_a_pure_function(output: Callable[[], Tensor], tensors: Sequence[Tensor], name: str) -> tuple[int, ...]:
    """The result's shape.  Raises GradientError for a function that changes its inputs or is not deterministic."""
    before = [t.data.copy() for t in tensors]
    first = output()
    if not isinstance(first, Tensor):
        raise TypeError(f"{name}: the function returned {type(first).__name__}, expected a Tensor")
    value = first.data.copy()
    if not all(np.array_equal(t.data, kept, equal_nan=True) for t, kept in zip(tensors, before, strict=True)):
        raise GradientError(f"{name}: the function writes to its input")
    if not np.array_equal(value, output().data, equal_nan=True):
        raise GradientError(f"{name}: two evaluations differ; leave out dropout with model.eval(), or other randomness")
    return first.shape


def _with_small_jacobian(tensors: Sequence[Tensor], shape: tuple[int, ...]) -> list[int]:
    outputs = int(np.prod(shape))
    return [k for k, t in enumerate(tensors) if 0 < t.size <= MAX_JACOBIAN_SIZE and outputs <= MAX_JACOBIAN_SIZE]


def _gradients(output: Callable[[], Tensor], tensors: Sequence[Tensor], dy: Array) -> list[Array]:
    for t in tensors:
        t.zero_grad()
    out = output()
    if out.requires_grad:
        out.backward(np.asarray(dy, dtype=out.dtype))
    for t in tensors:
        if t.grad is not None and t.grad.shape != t.shape:
            raise GradientError(
                f"{uses_text(output(), t)}a gradient has shape {t.grad.shape}, its tensor {t.shape}; "
                "sum over the broadcast axes"
            )
    return [np.zeros(t.shape) if t.grad is None else t.grad.copy() for t in tensors]


def _jacobian(output: Callable[[], Tensor], tensors: Sequence[Tensor], k: int, shape: tuple[int, ...]) -> Array:
    """(inputs, outputs)"""
    rows = [_gradients(output, tensors, unit)[k].ravel() for unit in _unit_vectors(shape)]
    return np.stack(rows, axis=1)


def _unit_vectors(shape: tuple[int, ...]) -> Iterator[Array]:
    for i in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[i] = 1
        yield unit


def _norm(a: Array) -> float:
    return float(np.linalg.norm(np.ravel(a)))


def check_hessian_symmetry(
    loss: Callable[[], Tensor], leaves: Mapping[str, Tensor], *, tolerance: float = 1e-12, pairs: int = 3, seed: int = 0
) -> float:
    """Check u'Hv = v'Hu for random u and v, where Hv = Im grad(x + ihv) / h; returns the worst relative error.

    Runs the backward rules on complex numbers.  Needs no reference: a vector field that is not the gradient of a
    function has an asymmetric Jacobian.  Raises GradientError above `tolerance`; ValueError without leaves that have
    elements, or for fewer than 1 pair.
    """
    if pairs < 1 or not any(t.size for t in leaves.values()):
        raise ValueError(f"Hessian: {pairs} pairs of vectors over {len(leaves)} leaves compare nothing")
    rng = np.random.default_rng(seed)
    tensors = list(leaves.values())

    def hessian_times(v: list[Array]) -> list[Array]:
        for t, part in zip(tensors, v, strict=True):
            t.data.imag[...] = COMPLEX_STEP * part
        return [g.imag / COMPLEX_STEP for g in _gradients(loss, tensors, np.ones(()))]

    worst = 0.0
    with replaced(tensors, np.complex128):
        for _ in range(pairs):
            u, v = ([rng.standard_normal(t.shape) for t in tensors] for _ in range(2))
            hu, hv = hessian_times(u), hessian_times(v)
            scale = _length(hv) * _length(u) / np.sqrt(sum(t.size for t in tensors))
            difference = abs(_dot(u, hv) - _dot(v, hu))
            error = 0.0 if difference == 0 else difference / scale if scale else np.inf
            if not error <= tolerance:
                raise GradientError(f"Hessian: u'Hv = {_dot(u, hv):.15g} but v'Hu = {_dot(v, hu):.15g}")
            worst = max(worst, error)
    return worst


def _dot(a: list[Array], b: list[Array]) -> float:
    return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))


def _length(a: list[Array]) -> float:
    return float(np.sqrt(_dot(a, a)))
