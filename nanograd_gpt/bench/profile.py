"""Profile of a train step: kernels, arithmetic outside them, random numbers, and overhead.

Overhead is the engine's own Python: graph nodes, the backward traversal, modules, the optimizer's driver, and what an
operation does around its kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, TypeAlias

from .. import autograd
from ..autograd import Function, Node
from ..backend.contract import KERNELS
from ..backend.select import Device, kernels_of, synchronize
from ..gpt.model import GPTModel
from ..tape.watch import replaced
from .costs import Cost, cost_of, cost_of_new_arrays
from .statistics import summary
from .step import TrainStep

Kind: TypeAlias = Literal["kernel", "arithmetic", "random"]
Work: TypeAlias = tuple[str, Kind, Cost]


@dataclass
class Entry:
    """All calls of one name: their seconds, without nested recorded calls, and their cost."""

    name: str
    kind: Kind
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Profile:
    """Entries recorded in `seconds`, from which the recorder's own time is subtracted."""

    seconds: float = 0.0
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def overhead(self) -> float:
        """Seconds not accounted for by any entry: the engine's own Python."""
        return self.seconds - sum(entry.seconds for entry in self.entries.values())

    @property
    def overhead_share(self) -> float:
        """Overhead as a fraction of the total."""
        return self.overhead / self.seconds

    def longest_first(self) -> list[Entry]:
        """List the entries by seconds, longest first."""
        return sorted(self.entries.values(), key=lambda entry: -entry.seconds)


def profiled_step(step: TrainStep, rounds: int) -> Profile:
    """Profile several updates; returns the profile whose time is closest to the median."""
    profiles = []
    for _ in range(rounds):
        with record(step.model) as profile:
            step.run()
        profiles.append(profile)
    median = summary([p.seconds for p in profiles]).median
    return min(profiles, key=lambda p: abs(p.seconds - median))


@contextlib.contextmanager
def record(model: GPTModel) -> Iterator[Profile]:
    """Record all computation on the model's backend in this block; the profile is complete at its end.

    Kernels, operations and the model's random stream are patched with timed versions in the block, for the whole
    process: run nothing else at the same time.
    """
    recorder = _Recorder(model.device)
    with ExitStack() as patches:
        for owner, name, timed in _instrumented(model, recorder):
            patches.enter_context(replaced(owner, name, timed))
        start = perf_counter()
        try:
            yield recorder.profile
        finally:
            synchronize(model.device)
            recorder.profile.seconds = perf_counter() - start - recorder.own_time


def _instrumented(model: GPTModel, recorder: _Recorder) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Yield (owner, name, timed replacement) of every function that computes on arrays."""
    kernels = kernels_of(model.parameters()[0].data)
    for name in KERNELS:
        if name != "keep_mask":
            yield kernels, name, recorder.kernel(name, getattr(kernels, name))
    for operation in _subclasses(Function):
        for name in {"forward", "backward"} & {*vars(operation)}:
            yield operation, name, recorder.operation(operation.__name__, getattr(operation, name))
    yield autograd, "accumulate_grad", recorder.accumulate_grad(autograd.accumulate_grad)
    yield kernels, "keep_mask", recorder.random("random masks", kernels.keep_mask)


def _subclasses(cls: type[Function]) -> list[type[Function]]:
    return [below for direct in cls.__subclasses__() for below in (direct, *_subclasses(direct))]


class _Recorder:
    """Times functions, and excludes the time of its own bookkeeping."""

    def __init__(self, device: Device) -> None:
        self.device, self.profile = device, Profile()
        self.own_time = 0.0
        self.accounted = 0.0  # seconds in entries or in bookkeeping

    def kernel(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._timed(call, lambda args, kwargs, result, _: (name, "kernel", cost_of(name, args, kwargs, result)))

    def operation(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Time an operation's forward or backward as arithmetic; if it called a kernel, the rest counts as overhead."""

        def work(args: Any, kwargs: Any, result: Any, called_a_kernel: bool) -> Work | None:
            return None if called_a_kernel else (name, "arithmetic", cost_of_new_arrays(args, result))

        return self._timed(call, work)

    def accumulate_grad(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Time a gradient's accumulation, a sum unless it is the node's first."""
        added = self._timed(call, lambda args, *_: ("sum of gradients", "arithmetic", Cost(0, 3 * args[1].nbytes)))

        def wrapper(node: Node, gradient: Any, fresh: bool) -> None:
            (call if node.grad is None else added)(node, gradient, fresh)

        return wrapper

    def random(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._timed(call, lambda *_: (name, "random", Cost(0, 0)))

    def _timed(self, call: Callable[..., Any], work: Callable[..., Work | None]) -> Callable[..., Any]:
        """Wrap a function with a timer; `work` classifies a call, given whether recorded calls were nested in it."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            entered, accounted = perf_counter(), self.accounted
            start = perf_counter()
            result = call(*args, **kwargs)
            synchronize(self.device)
            end = perf_counter()
            within = self.accounted - accounted
            done = work(args, kwargs, result, within > 0)
            if done is not None:
                self._add(end - start - within, *done)
            bookkeeping = start - entered + perf_counter() - end
            self.own_time += bookkeeping
            self.accounted += bookkeeping
            return result

        return wrapper

    def _add(self, seconds: float, name: str, kind: Kind, cost: Cost) -> None:
        entry = self.profile.entries.setdefault(name, Entry(name, kind))
        entry.calls += 1
        entry.seconds += seconds
        entry.flops += cost.flops
        entry.bytes += cost.bytes
        self.accounted += seconds
