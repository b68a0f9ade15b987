"""The rows of an embedding's gradient that are not zero.

The gradient of a lookup (V, C) has a row for each id of the vocabulary, and a batch has few of them.  While the rows
that were written to are known, the others are not zeroed again, AdamW does not read them, and they take no memory.
"""

from __future__ import annotations

import numpy as np

from .backend.contract import Array, Bools, GradOut, Ints


class NonzeroRows:
    """The rows of an array (V, C) that may be other than zero; at first none is.

    Attributes: marked (V,), True for such a row.
    """

    __slots__ = ("marked",)

    def __init__(self, n_rows: int) -> None:
        self.marked: Bools = np.zeros(n_rows, dtype=np.bool_)

    def zero(self, array: Array) -> None:
        """Set the array to zero."""
        array[np.flatnonzero(self.marked)] = 0  # faster than by the mask
        self.marked[:] = False

    def copy_into(self, zeros: Array, array: Array) -> None:
        """Copy an array, without writing zeros over zeros."""
        self.marked[:] = array.any(axis=1)
        np.copyto(zeros, array, where=self.marked[:, None])

    def written(self, out: GradOut, ids: Ints | None) -> GradOut:
        """Prepare for a gradient that is zero but in the rows `ids`, or may be anything (None)."""
        if ids is not None and not out.accumulate:
            self.zero(out.array)
            out = GradOut(out.array, accumulate=True)
        self.marked[... if ids is None else ids] = True
        return out
