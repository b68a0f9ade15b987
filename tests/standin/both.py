"""Comparison of a function of Tensors on NumPy's arrays and on CuPy's, of the stand-in or the real one.

    with installed():
        assert run_on_both(F.where, (mask, x, 2.0)) == []  # the same values and gradients, and the host never waited

For samples of PyTorch's, a sample's arrays as arguments, the rest as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nanograd_gpt.backend.select import Device, kernels_of, to_device, to_host
from nanograd_gpt.tensor import Tensor

from .record import record

HostArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Run:
    outputs: list[HostArray]
    gradients: list[HostArray | None]
    waits: list[str]


def run_on_both(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    params: Mapping[str, Any] | None = None,
    *,
    tolerance: float = 1e-13,
) -> list[str]:
    """Compare function(*arguments, **params) and its gradients on device arrays with those on NumPy's.

    Float and complex arrays among the arguments, also those in lists and tuples, become Tensors that want a gradient,
    one that is given twice one Tensor used twice; all other arrays are moved only.  Strided arrays are strided on the
    device too.  Everything else is handed over as it is.  The function may return a Tensor, an array, or several.

    Returns where the host waited for the device.  Raises AssertionError that names what differs: shape, dtype, or
    values by more than a relative `tolerance` of their norm.  Needs a `cupy` to import: `installed()`, or the real one.
    """
    expected, got = (_run(function, arguments, params or {}, device) for device in ("cpu", "cuda"))
    assert len(got.outputs) == len(expected.outputs)
    for k, (a, b) in enumerate(zip(got.outputs, expected.outputs, strict=True)):
        _see_equal(f"output {k}", a, b, tolerance)
    for k, (c, d) in enumerate(zip(got.gradients, expected.gradients, strict=True)):
        assert (c is None) == (d is None), f"gradient {k} is {'missing' if c is None else 'there'} on the device only"
        if c is not None and d is not None:
            _see_equal(f"gradient {k}", c, d, tolerance)
    return got.waits


def on_device(array: HostArray, device: Device) -> Any:
    """The array on the device, with its strides: spaced, reversed and broadcast axes are reproduced by views."""
    if array.flags.forc:
        return to_device(array, device)
    if any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape, strict=True)):
        one = on_device(array[tuple(slice(None, 1) if n == 0 else slice(None) for n in array.strides)], device)
        return kernels_of(one).xp.broadcast_to(one, array.shape)
    room = to_device(np.zeros(tuple(2 * n for n in array.shape), array.dtype), device)
    view = room[tuple(slice(None, None, 2) for _ in array.shape)][..., ::-1]
    view[...] = to_device(array, device)
    return view


def _run(function: Callable[..., Any], arguments: Sequence[Any], params: Mapping[str, Any], device: Device) -> Run:
    leaves: dict[int, Tensor] = {}

    def placed(value: Any, wants_gradient: bool) -> Any:
        if isinstance(value, np.ndarray) and wants_gradient and value.dtype.kind in "fc":
            if id(value) not in leaves:
                leaves[id(value)] = Tensor(on_device(value, device), requires_grad=True)
            return leaves[id(value)]
        if isinstance(value, np.ndarray):
            return on_device(value, device)
        if isinstance(value, list | tuple):
            return type(value)(placed(item, wants_gradient) for item in value)
        return value

    placed_arguments = [placed(value, True) for value in arguments]
    placed_params = {name: placed(value, False) for name, value in params.items()}
    record.syncs.clear()
    result = function(*placed_arguments, **placed_params)
    outputs = list(result) if isinstance(result, list | tuple) else [result]
    _backward([t for t in outputs if isinstance(t, Tensor) and t.requires_grad], device)
    waits = list(record.syncs)
    arrays = [t.data if isinstance(t, Tensor) else t for t in outputs]
    gradients = [None if t.grad is None else to_host(t.grad) for t in leaves.values()]
    return Run([to_host(a) for a in arrays], gradients, waits)


def _backward(outputs: list[Tensor], device: Device) -> None:
    """Call backward on all outputs at once, with a different weight for each element."""
    weights = [to_device(np.linspace(1, 2, t.size).reshape(t.shape).astype(t.dtype), device) for t in outputs]
    if len(outputs) == 1:
        outputs[0].backward(weights[0])
    elif outputs:
        first, *rest = [(t * w).sum() for t, w in zip(outputs, weights, strict=True)]
        sum(rest, first).backward()


def _see_equal(what: str, got: HostArray, expected: HostArray, tolerance: float) -> None:
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), f"{what}: not the same shape or dtype"
    if expected.dtype.kind not in "fc":
        assert np.array_equal(got, expected), f"{what}: {got}, on the CPU {expected}"
        return
    finite = np.isfinite(expected)
    assert np.array_equal(finite, np.isfinite(got)), f"{what}: {got}, on the CPU {expected}"
    assert np.array_equal(got[~finite], expected[~finite], equal_nan=True), f"{what}: {got}, on the CPU {expected}"
    error, scale = np.linalg.norm(got[finite] - expected[finite]), np.linalg.norm(expected[finite])
    assert error <= tolerance * scale, f"{what}: relative error {error / scale if scale else np.inf:.1e}"
