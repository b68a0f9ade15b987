"""A logical clock of graph nodes and writes to parameters: was an array written to after a node was created?

An optimizer's step and load_state_dict mark the arrays they write to.  Writing to `t.data` directly is not detected, as
in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, TypeAlias

import numpy as np

from .backend.contract import Array

Span: TypeAlias = tuple[int, int]  # addresses of the first byte and of the one after the last

_clock = count(1)
_changes: dict[Span, int] = {}  # memory -> time of its last write
_last_change = 0


def tick() -> int:
    """Advance the clock and return its time."""
    return next(_clock)


def mark_changed(array: Array) -> None:
    """Record a write to an array, now.

    Entries of freed memory are harmless: a node that reads a later array in that memory is newer than the write.
    """
    global _last_change
    _last_change = _changes[_span(array)] = tick()


def check_unchanged(name: str, saved: Any, moment: int) -> None:
    """Raise RuntimeError if an array in `saved` (arrays, or tuples and lists of them) was written to after `moment`."""
    if _last_change < moment:
        return
    changed = [span for span, when in _changes.items() if when > moment]
    for array in arrays_in(saved):
        if any(_overlap(_span(array), span) for span in changed):
            raise RuntimeError(
                f"{name}: a parameter {array.dtype}{list(array.shape)} was written to after forward (by an optimizer's "
                "step or load_state_dict); call backward() before that, or run forward again"
            )


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _span(array: Array) -> Span:
    data: Any = array.data  # a memoryview, or CuPy's pointer
    start: int = array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else data.ptr
    if not array.size:
        return start, start
    offsets = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    return start + sum(o for o in offsets if o < 0), start + sum(o for o in offsets if o > 0) + array.itemsize


def arrays_in(saved: Any) -> Iterator[Array]:
    """Yield the arrays in what an operation saved: arrays, and tuples and lists of them."""
    if isinstance(saved, tuple | list):
        for part in saved:
            yield from arrays_in(part)
    elif hasattr(saved, "strides"):
        yield saved
