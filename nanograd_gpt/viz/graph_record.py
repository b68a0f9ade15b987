"""Recording of a computation: every operation's inputs and result, and the modules that called it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import Function, Node
from ..backend.contract import Array
from ..tape.watch import Call, Recorded, Watcher, calls, watched


@dataclass
class Recording(Watcher):
    """The recorded values of a graph, by node."""

    values: dict[Node, Array] = field(default_factory=dict)  # of leaves and of results
    inputs: dict[Node, Sequence[Any]] = field(default_factory=dict)  # of each operation: arrays and numbers
    calls: dict[Node, tuple[Call, ...]] = field(default_factory=dict)  # around each operation, outermost first

    def forward(
        self,
        run: Callable[..., Recorded],
        op: type[Function],
        arrays: Sequence[Any],
        parents: Sequence[Node | None],
        params: Mapping[str, Any],
    ) -> Recorded:
        """Keep the operation's inputs, result and calls, if it is recorded in the graph."""
        out, node = run(op, arrays, parents, params)
        if node is not None:
            self.values[node] = np.asarray(out) if isinstance(out, np.generic) else out
            self.inputs[node] = arrays
            self.calls[node] = calls()
            for parent, array in zip(parents, arrays, strict=True):
                if parent is not None:
                    self.values.setdefault(parent, array)
        return out, node


@contextmanager
def recorded() -> Iterator[Recording]:
    """Record the operations of this thread in this block; those of other threads run as before."""
    recording = Recording()
    with watched(recording):
        yield recording
