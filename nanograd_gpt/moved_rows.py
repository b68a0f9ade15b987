"""AdamW's update of an embedding by rows: one whose gradient and means are zero does nothing but decay.

In the text of a book, or in the first thousand updates, most tokens of GPT-2's vocabulary never occur.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .autograd import Leaf
from .backend.contract import AdamWNumbers, Array, HostArray, Kernels
from .nonzero_rows import NonzeroRows

FEW = 1 / 8  # of the rows: more are updated with all others, since rows are copied out and back


class MovedRows(NonzeroRows):
    """The rows of both means (V, C) of an embedding's gradient that may be other than zero."""

    __slots__ = ()

    def are_few(self, leaf: Leaf) -> bool:
        """Add the rows of the parameter's present gradient; returns whether an update by rows is worth it."""
        self.marked |= True if leaf.rows is None else leaf.rows.marked
        return bool(np.count_nonzero(self.marked) <= FEW * len(self.marked))

    def update(self, kernels: Kernels, arrays: Sequence[Array], numbers: HostArray, scale: Array | None) -> None:
        """Update param, grad, exp_avg and exp_avg_sq (V, C) as the kernel adamw does, to the same bits."""
        of_all = AdamWNumbers(*numbers.tolist())
        param, _, exp_avg, exp_avg_sq = arrays
        if of_all.decay != 1:
            param *= of_all.decay
        rows = np.flatnonzero(self.marked)
        p, g, m, v = (array[rows].reshape(-1) for array in arrays)
        kernels.adamw(p, g, m, v, np.array(of_all._replace(decay=1.0)), scale)
        for array, part in ((param, p), (exp_avg, m), (exp_avg_sq, v)):
            array[rows] = part.reshape(len(rows), -1)

    def load(self, means: Sequence[Array], given: Sequence[Array]) -> None:
        """Copy given arrays into both means, without writing zeros over zeros."""
        nonzero = given[0].any(axis=1) | given[1].any(axis=1)
        for mean, values in zip(means, given, strict=True):
            np.copyto(mean, values, where=(nonzero | self.marked)[:, None])
        self.marked[:] = nonzero
