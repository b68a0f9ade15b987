"""The contents of a tape: operations, calls of modules, and arrays of named places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..backend.contract import Array


class Span(NamedTuple):
    """A time in milliseconds, and when it began, on the tape's clock."""

    begin: float
    ms: float


@dataclass
class Operation:
    """One operation, or what else took time: a drawn dropout mask, attention to a KV cache, an optimizer's step."""

    name: str  # LayerNorm
    path: str  # trf_blocks.0.norm1, of its module; "" outside modules, and of the model itself
    inputs: tuple[tuple[int, ...], ...]  # shapes of the arrays; () of a number
    shape: tuple[int, ...]  # of the result
    dtype: str  # of the result
    source: str  # gpt/model.py:91, the line that called it
    kept: int = 0  # bytes of arrays kept for backward, without parameters and what an earlier operation keeps
    forward: Span | None = None  # None if it ran before the tape began
    backward: Span | None = None  # None until then; the addition of its inputs' gradients is included

    @property
    def forward_ms(self) -> float:
        """Milliseconds of its forward, or of the optimizer's step."""
        return self.forward.ms if self.forward else 0.0

    @property
    def backward_ms(self) -> float:
        """Milliseconds of its backward; 0 before and without one."""
        return self.backward.ms if self.backward else 0.0


class ModuleCall(NamedTuple):
    """One call of a module: its path, "" of the model itself, its class, and its time."""

    path: str
    kind: str
    span: Span


@dataclass
class Place:
    """A named place in a forward: its array, and the gradient with respect to it after backward, on the same device."""

    name: str
    value: Array
    grad: Array | None = None
