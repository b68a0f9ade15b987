"""CUDA graphs on the stand-in: what is queued while a stream captures runs at every launch of the graph.

As on a GPU, capturing changes nothing: memory is afterwards as it was before, and arrays made meanwhile hold no values
until a launch.  Waiting and copying from the host are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .memory import memory_of, owners, poisoned
from .record import CAPTURE_UNSUPPORTED, CUDARuntimeError, record

Call = TypeVar("Call", bound=Callable[..., Any])


class Graph:
    """The calls that a stream captured, with their arguments and results."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.created: list[Any] = []  # arrays, which keep their memory as long as the graph
        self.before = [(array, array._host.copy()) for array in list(owners.values())]

    def end(self) -> None:
        for array, host in self.before:
            array._host[...] = host
        for array in self.created:
            poisoned(array._host)
        self.before = []

    def launch(self, stream: Any = None) -> None:
        record.need_device()
        n_launches, n_operations = len(record.launches), len(record.operations)
        for function, args, kwargs, result in self.calls:
            write(function(*args, **kwargs), result)
        record.launches[n_launches:], record.operations[n_operations:] = ["graph"], []

    def upload(self, stream: Any = None) -> None:
        pass


def write(again: Any, result: Any) -> None:
    """Copy a call's new result into its first one, unless it is a view or an argument."""
    if isinstance(result, (tuple, list)):
        for new, old in zip(again, result, strict=True):
            write(new, old)
    elif hasattr(result, "_host") and memory_of(again._host) is not memory_of(result._host):
        np.copyto(result._host, again._host)


class Capture:
    """The graph that is being captured, if any, and how deep in calls of the stand-in's own."""

    graph: Graph | None = None
    depth = 0

    def begin(self) -> None:
        record.refuse_while_capturing()
        self.graph, record.capturing = Graph(), True

    def end(self) -> Graph:
        graph, self.graph, record.capturing = self.graph, None, False
        if graph is None:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)
        graph.end()
        return graph


capture = Capture()


def queued(function: Call) -> Call:
    """A function of device arrays that runs again in each launch of a graph that captures it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        record.works += 1
        if capture.graph is None or capture.depth:
            return function(*args, **kwargs)
        capture.depth += 1
        try:
            result = function(*args, **kwargs)
        finally:
            capture.depth -= 1
        capture.graph.calls.append((function, args, kwargs, result))
        return result

    return call  # type: ignore[return-value]  # it takes and returns what the function does
