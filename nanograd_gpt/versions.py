"""A clock that counts graph nodes and writes to parameters: was an array written to after a node was made?

An optimizer's step and load_state_dict mark what they write to.  What is done to the array behind a Tensor from outside
(`t.data[...] = 0`) is not seen, as PyTorch does not see what is done to `.data`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, TypeAlias

import numpy as np

from .backend.contract import Array

Span: TypeAlias = tuple[int, int]  # addresses of the first byte and of the one after the last

_clock = count(1)
_changes: dict[Span, int] = {}  # memory -> when it was last written to
_last_change = 0


def tick() -> int:
    """The next moment: later ones are larger."""
    return next(_clock)


def mark_changed(array: Array) -> None:
    """Note that an array is written to now.

    Memory that a later array inherits does no harm: whatever reads that array is younger than the change.
    """
    global _last_change
    _last_change = _changes[_span(array)] = tick()


def changed_since(saved: Any, moment: int) -> Array | None:
    """An array in `saved` (arrays, or tuples and lists of them) that was written to after a moment, if there is one."""
    if _last_change < moment:
        return None
    changed = [span for span, when in _changes.items() if when > moment]
    return next((a for a in _arrays_in(saved) if any(_overlap(_span(a), span) for span in changed)), None)


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _span(array: Array) -> Span:
    data: Any = array.data  # a memoryview, or CuPy's pointer
    start: int = array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else data.ptr
    if not array.size:
        return start, start
    offsets = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    return start + sum(o for o in offsets if o < 0), start + sum(o for o in offsets if o > 0) + array.itemsize


def _arrays_in(saved: Any) -> Iterator[Array]:
    if isinstance(saved, tuple | list):
        for part in saved:
            yield from _arrays_in(part)
    elif hasattr(saved, "strides"):
        yield saved
