"""A clock that counts graph nodes and writes to parameters: was an array written to after a node was made?

An optimizer's step and load_state_dict mark what they write to.  What is done to the array behind a Tensor from outside
(`t.data[...] = 0`) is not seen, as PyTorch does not see what is done to `.data`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from .backend.contract import Array

_clock = count(1)
_changes: dict[int, int] = {}  # id of an array that owns its memory -> when it was last written to
_last_change = 0


def tick() -> int:
    """The next moment: later ones are larger."""
    return next(_clock)


def mark_changed(array: Array) -> None:
    """Note that an array, or the one it is a view of, has been written to now.

    An id that a later array inherits does no harm: whatever reads that array is younger than the change.
    """
    global _last_change
    _last_change = _changes[_owner(array)] = tick()


def changed_since(saved: Any, moment: int) -> Array | None:
    """An array in `saved` (arrays, or tuples and lists of them) that was written to after a moment, if there is one."""
    if _last_change < moment:
        return None
    return next((a for a in _arrays_in(saved) if _changes.get(_owner(a), 0) > moment), None)


def _owner(array: Array) -> int:
    return id(array if array.base is None else array.base)


def _arrays_in(saved: Any) -> Iterator[Array]:
    if isinstance(saved, tuple | list):
        for part in saved:
            yield from _arrays_in(part)
    elif hasattr(saved, "base"):
        yield saved
