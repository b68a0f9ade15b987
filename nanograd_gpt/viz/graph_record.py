"""Recording of a computation: every operation's inputs and result, and the modules that called it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from .. import autograd, tensor
from ..autograd import Function, Node
from ..backend.contract import Array
from ..nn.module import Module


class Call(NamedTuple):
    """One call of a module."""

    module: Module
    serial: int


@dataclass
class Recording:
    """The recorded values of a graph, by node."""

    values: dict[Node, Array] = field(default_factory=dict)  # of leaves and of results
    inputs: dict[Node, Sequence[Any]] = field(default_factory=dict)  # of each operation: arrays and numbers
    calls: dict[Node, tuple[Call, ...]] = field(default_factory=dict)  # around each operation, outermost first
    n_calls: int = 0


_active: ContextVar[Recording | None] = ContextVar("recording", default=None)
_stack: ContextVar[tuple[Call, ...]] = ContextVar("calls", default=())
_lock = RLock()  # one recording at a time: the two functions are patched for the whole process


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    """Record the operations of this thread in this block; those of other threads run as before."""
    with _lock:
        recording, record, call = Recording(), autograd.record, Module.__call__

        def recording_record(
            op: type[Function], arrays: Sequence[Any], parents: Sequence[Node | None], params: Mapping[str, Any]
        ) -> tuple[Array, Function | None]:
            out, node = record(op, arrays, parents, params)
            if node is not None and _active.get() is recording:
                recording.values[node] = np.asarray(out) if isinstance(out, np.generic) else out
                recording.inputs[node] = arrays
                recording.calls[node] = _stack.get()
                for parent, array in zip(parents, arrays, strict=True):
                    if parent is not None:
                        recording.values.setdefault(parent, array)
            return out, node

        def recording_call(module: Module, *inputs: Any, **options: Any) -> Any:
            if _active.get() is not recording:
                return call(module, *inputs, **options)
            recording.n_calls += 1
            token = _stack.set((*_stack.get(), Call(module, recording.n_calls)))
            try:
                return call(module, *inputs, **options)
            finally:
                _stack.reset(token)

        token = _active.set(recording)
        try:
            with _replaced(tensor, "record", recording_record), _replaced(Module, "__call__", recording_call):
                yield recording
        finally:
            _active.reset(token)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)
