"""Every kernel call of a computation, repeated on a second backend with the same inputs, and its outputs compared.

    with repeated(backend_named("cpu"), backend_named("plain"), names={id(weight): "head.weight"}) as calls:
        train_one_step()  # on the first backend's device
    assert first_difference(calls) is None

A difference is thus one kernel's own, and not what an earlier one has led to: except that what a backend keeps for its
own backward, and its masks, are always its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from inspect import signature
from itertools import accumulate, takewhile
from typing import Any, NamedTuple

import numpy as np

from .bfloat16 import is_bfloat16
from .contract import KERNELS, GradOut, HostArray, Kernels
from .difference import Difference, difference
from .select import Device, to_device, to_host

BACKENDS: dict[str, tuple[str, Device]] = {
    "cpu": (".cpu", "cpu"),
    "plain": (".plain.kernels", "cpu"),
    "cuda": (".cuda", "cuda"),
}
# Results that only the same backend reads again, so that they may be anything: a kernel's, by number
OWN_RESULTS = {"linear_gelu": {1}, "linear_cross_entropy": {2}, "keep_mask": {0}}
OF_ALL_PARAMETERS = {"adamw", "clip_scale"}


class Backend(NamedTuple):
    """A backend's name, the device of its arrays, and its kernels; "plain" are the formulas on NumPy."""

    name: str
    device: Device
    kernels: Any


class Call(NamedTuple):
    """A kernel's call: the module that it is for, and its output that differs the most, in units of its limit."""

    kernel: str
    where: str
    difference: Difference


def backend_named(name: str) -> Backend:
    """A backend by its name in BACKENDS; "cuda" needs a GPU."""
    module, device = BACKENDS[name]
    return Backend(name, device, import_module(module, __package__))


def first_difference(calls: Sequence[Call]) -> Call | None:
    """The first call with a difference that is not allowed, or None."""
    return next((call for call in calls if not call.difference.is_allowed), None)


@contextmanager
def repeated(first: Backend, second: Backend, names: Mapping[int, str]) -> Iterator[list[Call]]:
    """Compute all kernels in this block by `first`, and each once more by `second`; the list gets every call.

    names: of parameters, and of the memory for their gradients, by the arrays' id().  The kernels of first's device are
    patched in the block, for the whole process: run nothing else at the same time.
    """
    repeat = _Repeat(first, second, names)
    patched = vars(backend_named(first.device).kernels)
    before = {name: patched[name] for name in (*KERNELS, "product_weights")}
    patched.update({name: repeat.of_both(name) for name in KERNELS}, product_weights=repeat.product_weights)
    try:
        yield repeat.calls
    finally:
        patched.update(before)


class _Repeat:
    """Kernels that call both backends', each with memory of its own for what is written."""

    def __init__(self, first: Backend, second: Backend, names: Mapping[int, str]) -> None:
        self.first, self.second, self.names = first, second, dict(names)
        self.kept: list[Any] = []
        self._product_weights = first.kernels.product_weights
        self.calls: list[Call] = []
        self.own_results: dict[int, tuple[Any, Any]] = {}  # first's and second's, by first's id
        self.where = "the beginning"
        self.on_gpu = "cuda" in (first.device, second.device)
        of_gpu = (backend_named("cuda").kernels.xp.ndarray,) if self.on_gpu else ()
        self.array_types = (np.ndarray, np.generic, *of_gpu)

    def product_weights(self, x: Any, weights: Sequence[Any]) -> Sequence[Any]:
        """The first backend's, under the names of the parameters that they are rounded from."""
        used = self._product_weights(x, weights)
        self.kept.append(used)  # so that no other array gets the id of one
        self.names |= {id(a): self.names[id(b)] for a, b in zip(used, weights, strict=True) if id(b) in self.names}
        return used

    def of_both(self, name: str) -> Callable[..., Any]:
        ours, theirs = getattr(self.first.kernels, name), getattr(self.second.kernels, name)
        contract = signature(getattr(Kernels, name))
        labels = list(contract.parameters)[1:]

        def kernel(*positional: Any, **named: Any) -> Any:
            given = contract.bind(None, *positional, **named)
            given.apply_defaults()
            args = given.args[1:]
            copies = [self._copied(value) for value in args]
            inputs = [
                (label, value, copy)  # which the kernel may have written to
                for label, value, copy in zip(labels, args, copies, strict=True)
                if id(value) not in self.own_results
            ]
            result, other = ours(*args), theirs(*copies)
            outputs = [*self._results(name, result, other), *inputs]
            compared = [
                difference(name, label, self._hosts(a), self._hosts(b), self.on_gpu)
                for label, a, b in outputs
                if self._leaves(a) or self._leaves(b)
            ]
            self.calls.append(Call(name, self._place(name, args), max(compared, key=lambda d: d.in_limits)))
            return result

        return kernel

    def _results(self, name: str, result: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
        """The results of both, those that can be compared; the others are kept for second's backward."""
        ours, theirs = (r if type(r) is tuple else (r,) for r in (result, other))
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            is_own = i in OWN_RESULTS.get(name, ())
            if is_own and a is not None:
                self.own_results[id(a)] = a, b
            if name == "keep_mask":
                yield "mask", getattr(a, "bools", a), getattr(b, "bools", b)
            elif not is_own:
                yield "result" if len(ours) == 1 else f"result {i + 1}", a, b

    def _copied(self, value: Any) -> Any:
        """A kernel's argument for the second backend."""
        if id(value) in self.own_results:
            return self.own_results[id(value)][1]
        if isinstance(value, self.array_types):
            return to_device(_host(value).copy(), self.second.device)
        if isinstance(value, GradOut):
            return GradOut(to_device(_memory_of(value), self.second.device), value.accumulate)
        if isinstance(value, list | tuple) and self._leaves(value):
            return self._side_by_side(value)
        if isinstance(value, np.dtype) and is_bfloat16(value) and self.second.device == "cpu":
            return np.dtype(np.float32)
        return deepcopy(value) if hasattr(value, "keep_mask") else value

    def _side_by_side(self, values: Sequence[Any]) -> list[Any]:
        """Copies of arrays or GradOuts in one flat array, as in an optimizer's: a kernel may take them at once."""
        hosts = [_memory_of(value) for value in values if value is not None]
        multiple = getattr(self.second.kernels, "PARAMETER_ALIGNMENT", 1)
        begins = [0, *accumulate(-(-host.size // multiple) * multiple for host in hosts)]
        flat = np.zeros(begins.pop(), dtype=hosts[0].dtype)
        for begin, host in zip(begins, hosts, strict=True):
            flat[begin : begin + host.size] = host.reshape(-1)
        moved = to_device(flat, self.second.device)
        parts = (moved[i : i + host.size].reshape(host.shape) for i, host in zip(begins, hosts, strict=True))
        views: list[Any] = [None if value is None else next(parts) for value in values]
        return [
            GradOut(view, value.accumulate) if isinstance(value, GradOut) else view
            for view, value in zip(views, values, strict=True)
        ]

    def _leaves(self, value: Any) -> list[Any]:
        """The arrays in an argument or a result."""
        if isinstance(value, self.array_types):
            return [value]
        if isinstance(value, GradOut):
            return [value.array]
        return [leaf for part in value for leaf in self._leaves(part)] if isinstance(value, list | tuple) else []

    def _hosts(self, value: Any) -> list[HostArray]:
        return [_host(leaf) for leaf in self._leaves(value)]

    def _place(self, kernel: str, args: Sequence[Any]) -> str:
        """The module whose parameters a call has; of a call without any, the one before it."""
        if kernel in OF_ALL_PARAMETERS:
            return "all parameters"
        names = [self.names[id(leaf)] for value in args for leaf in self._leaves(value) if id(leaf) in self.names]
        if not names:
            return f"after {self.where}"
        parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
        self.where = ".".join(same[0] for same in takewhile(lambda part: len({*part}) == 1, parts))
        return self.where


def _host(array: Any) -> HostArray:
    return np.asarray(array if isinstance(array, np.generic) else to_host(array))


def _memory_of(value: Any) -> HostArray:
    """The values of an array or a GradOut as a copy; nan where a GradOut's are to be overwritten."""
    if not isinstance(value, GradOut):
        return _host(value).copy()
    return _host(value.array).copy() if value.accumulate else np.full_like(_host(value.array), np.nan)
