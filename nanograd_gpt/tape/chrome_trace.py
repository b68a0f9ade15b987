"""A tape in the Trace Event Format of Chrome, which Perfetto reads too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from threading import get_native_id
from typing import Any

from .operation import ModuleCall, Operation, Span


def trace(operations: Sequence[Operation], calls: Sequence[ModuleCall]) -> str:
    """The JSON text: a complete event ("X") for each forward, backward, and call of a module, in microseconds."""
    events = [*_of_operations(operations), *_of_calls(calls)]
    events.sort(key=lambda event: (event["ts"], -event["dur"]))  # what is around another event before it
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _of_operations(operations: Sequence[Operation]) -> Iterator[dict[str, Any]]:
    for operation in operations:
        facts = {
            "module": operation.path,
            "inputs": [list(shape) for shape in operation.inputs],
            "shape": list(operation.shape),
            "dtype": operation.dtype,
            "bytes kept": operation.kept,
            "called at": operation.source,
        }
        if operation.forward:
            yield _event(operation.name, "forward", operation.forward, facts)
        if operation.backward:
            yield _event(f"{operation.name}.backward", "backward", operation.backward, facts)


def _of_calls(calls: Sequence[ModuleCall]) -> Iterator[dict[str, Any]]:
    for call in calls:
        yield _event(call.path or call.kind, "module", call.span, {"class": call.kind})


def _event(name: str, category: str, span: Span, facts: dict[str, Any]) -> dict[str, Any]:
    start, duration = 1e3 * span.begin, 1e3 * span.ms
    place = {"pid": os.getpid(), "tid": get_native_id()}
    return {"name": name, "cat": category, "ph": "X", "ts": start, "dur": duration, **place, "args": facts}
