"""A profile of a train step: kernels, arithmetic outside them, random numbers, and the rest.

The rest is the engine's own Python: making nodes, walking back, modules, the optimizer's driver, and all that an
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
from ..backend.contract import Kernels
from ..backend.select import Device, kernels_of, synchronize
from ..gpt.model import GPTModel
from .costs import Cost, cost_of, cost_of_new_arrays
from .statistics import summary
from .step import TrainStep

Kind: TypeAlias = Literal["kernel", "arithmetic", "random"]
Work: TypeAlias = tuple[str, Kind, Cost]

KERNELS = sorted(name for name, member in vars(Kernels).items() if callable(member) and not name.startswith("_"))


@dataclass
class Entry:
    """All calls of one name: their seconds, less those of record calls within, and their work."""

    name: str
    kind: Kind
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Profile:
    """The entries record in so many seconds, the recorder's own time taken out."""

    seconds: float = 0.0
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def overhead(self) -> float:
        """Seconds that no entry accounts for: the engine's own Python."""
        return self.seconds - sum(entry.seconds for entry in self.entries.values())

    @property
    def overhead_share(self) -> float:
        """The overhead's part of the whole."""
        return self.overhead / self.seconds

    def longest_first(self) -> list[Entry]:
        """The entries by their seconds."""
        return sorted(self.entries.values(), key=lambda entry: -entry.seconds)


def profiled_step(step: TrainStep, rounds: int) -> Profile:
    """The profile of one update: of several, the one whose time is nearest their median."""
    profiles = []
    for _ in range(rounds):
        with record(step.model) as profile:
            step.run()
        profiles.append(profile)
    median = summary([p.seconds for p in profiles]).median
    return min(profiles, key=lambda p: abs(p.seconds - median))


@contextlib.contextmanager
def record(model: GPTModel) -> Iterator[Profile]:
    """Record all that is computed within on the model's backend; its profile is complete at the end.

    For the time being the kernels, the operations and the model's random numbers are replaced by timed ones: run
    nothing else meanwhile.
    """
    recorder = _Recorder(model.device)
    with ExitStack() as replaced:
        for owner, name, timed in _instrumented(model, recorder):
            replaced.enter_context(_replaced(owner, name, timed))
        start = perf_counter()
        try:
            yield recorder.profile
        finally:
            synchronize(model.device)
            recorder.profile.seconds = perf_counter() - start - recorder.own_time


def _instrumented(model: GPTModel, recorder: _Recorder) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Everything that computes on arrays, by its owner and name, and what stands in for it."""
    kernels = kernels_of(model.parameters()[0].data)
    for name in KERNELS:
        yield kernels, name, recorder.kernel(name, getattr(kernels, name))
    for operation in _subclasses(Function):
        for name in {"forward", "backward"} & {*vars(operation)}:
            yield operation, name, recorder.operation(operation.__name__, getattr(operation, name))
    yield autograd, "accumulate_grad", recorder.accumulate_grad(autograd.accumulate_grad)
    yield model.rng, "keep_mask", recorder.random("random masks", model.rng.keep_mask)


def _subclasses(cls: type[Function]) -> list[type[Function]]:
    return [below for direct in cls.__subclasses__() for below in (direct, *_subclasses(direct))]


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = vars(owner).get(name)  # None: an object's method is its class's
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


class _Recorder:
    """Puts a clock around functions, and keeps the time of its own book-keeping apart."""

    def __init__(self, device: Device) -> None:
        self.device, self.profile = device, Profile()
        self.own_time = 0.0
        self.accounted = 0.0  # seconds that are in entries, or are ours

    def kernel(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._timed(call, lambda args, kwargs, result, _: (name, "kernel", cost_of(name, args, kwargs, result)))

    def operation(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """An operation's forward or backward is arithmetic; if it called a kernel, what it did besides is overhead."""

        def work(args: Any, kwargs: Any, result: Any, called_a_kernel: bool) -> Work | None:
            return None if called_a_kernel else (name, "arithmetic", cost_of_new_arrays(args, result))

        return self._timed(call, work)

    def accumulate_grad(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A node gets a gradient: a sum, unless it is its first."""
        added = self._timed(call, lambda args, *_: ("sum of gradients", "arithmetic", Cost(0, 3 * args[1].nbytes)))

        def wrapper(node: Node, gradient: Any, fresh: bool) -> None:
            (call if node.grad is None else added)(node, gradient, fresh)

        return wrapper

    def random(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._timed(call, lambda *_: (name, "random", Cost(0, 0)))

    def _timed(self, call: Callable[..., Any], work: Callable[..., Work | None]) -> Callable[..., Any]:
        """The function with a clock: `work` says what a call was, given whether record calls were within it."""

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
            ours = start - entered + perf_counter() - end
            self.own_time += ours
            self.accounted += ours
            return result

        return wrapper

    def _add(self, seconds: float, name: str, kind: Kind, cost: Cost) -> None:
        entry = self.profile.entries.setdefault(name, Entry(name, kind))
        entry.calls += 1
        entry.seconds += seconds
        entry.flops += cost.flops
        entry.bytes += cost.bytes
        self.accounted += seconds
