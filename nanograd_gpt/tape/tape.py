"""Tape: what a forward and a backward pass held, as a table, a figure and a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError, counted, did_you_mean
from ..files import as_path, write_whole
from .chrome_trace import trace
from .figure import figure
from .operation import ModuleCall, Operation, Place
from .table import table


@dataclass(repr=False)
class Tape:
    """The operations that record() saw, in order; print it, or look at its parts.

    operations: each with its module, shapes, dtype, milliseconds, bytes kept for backward, and source line
    calls: the calls of modules
    places: with values=True, the entries of each named place, one for each time that it was computed; tape[name] is
        the last one, with its `value` and, after backward, its `grad`
    ms: milliseconds recorded, without the tape's own; time outside operations is among them
    """

    operations: list[Operation] = field(default_factory=list)
    calls: list[ModuleCall] = field(default_factory=list)
    places: Mapping[str, Sequence[Place]] = field(default_factory=dict)
    ms: float = 0.0
    on_gpu: bool = False

    @property
    def forward_ms(self) -> float:
        """Milliseconds of all forwards, and of an optimizer's steps."""
        return sum(operation.forward_ms for operation in self.operations)

    @property
    def backward_ms(self) -> float:
        """Milliseconds of all backwards."""
        return sum(operation.backward_ms for operation in self.operations)

    @property
    def outside_ms(self) -> float:
        """Milliseconds outside operations: Python between them, and whatever else ran in the block."""
        return self.ms - self.forward_ms - self.backward_ms

    @property
    def kept(self) -> int:
        """Bytes that the forwards kept for backward, without parameters."""
        return sum(operation.kept for operation in self.operations)

    def __getitem__(self, name: str) -> Place:
        """The last entry of a named place.  Raises InputError for a name that the tape does not have."""
        if name not in self.places:
            hint = did_you_mean(name, [*self.places]) if self.places else "; record(values=True) keeps them"
            raise InputError(f"tape: {name!r} is not one of its {len(self.places)} places{hint}")
        return self.places[name][-1]

    def __repr__(self) -> str:
        return f"Tape({counted(len(self.operations), 'operation')}, {self.ms:,.2f} ms)"

    def __str__(self) -> str:
        return table(self.operations, self.ms, self.on_gpu)

    def _repr_svg_(self) -> str:
        return figure(self.operations, self.ms, self.on_gpu)

    def svg(self, path: str | Path) -> Path:
        """Write a figure of the time in each module; returns its path.

        Modules are opened as far as the rows fit on a page.  Raises InputError for another suffix than .svg.
        """
        return _written(path, ".svg", self._repr_svg_(), "svg(path)")

    def chrome_trace(self, path: str | Path) -> Path:
        """Write the trace as JSON, which chrome://tracing and https://ui.perfetto.dev open; returns its path.

        Raises InputError for another suffix than .json.
        """
        return _written(path, ".json", trace(self.operations, self.calls), "chrome_trace(path)")


def _written(path: str | Path, suffix: str, text: str, call: str) -> Path:
    path = as_path(path, call)
    if path.suffix != suffix:
        raise InputError(f"tape: {str(path)!r} does not end with {suffix}")
    write_whole(path, text.encode())
    return path
