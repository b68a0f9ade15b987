"""AdamW's update of an embedding by rows: a row whose gradient and means are zero does nothing but decay.

In the text of a book, or in the first thousand updates, most tokens of GPT-2's vocabulary never occur.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .backend.contract import AdamWNumbers, Array, HostArray, Kernels
from .backend.cpu.blocks import for_each_block
from .nonzero_rows import NonzeroRows

COST = 25  # of a number's update with its copies, in multiplications
FEW = 1 / 4  # of the rows: more are updated with all others, since rows are copied out and back


class MovedRows(NonzeroRows):
    """The rows of both means (V, C) of an embedding's gradient that may be other than zero."""

    __slots__ = ()

    def add(self, gradient: NonzeroRows | None) -> None:
        """Mark the rows of the gradient that an update is going to use, or all of them (None)."""
        self.marked |= True if gradient is None else gradient.marked

    def are_few(self) -> bool:
        """Whether an update by rows takes less time than one of the whole array."""
        return bool(np.count_nonzero(self.marked) <= FEW * len(self.marked))

    def update(self, kernels: Kernels, arrays: Sequence[Array], numbers: HostArray, scale: Array | None) -> None:
        """Update param, grad, exp_avg and exp_avg_sq (V, C) as the kernel adamw does, to the same bits."""
        of_all = AdamWNumbers(*numbers.tolist())
        without_decay = np.array(of_all._replace(decay=1.0))
        param, _, exp_avg, exp_avg_sq = arrays
        rows, C = np.flatnonzero(self.marked), param.shape[1]

        def decay(block: slice) -> None:
            param[block] *= of_all.decay

        def update_rows(block: slice) -> None:
            at = rows[block]
            p, g, m, v = (array[at].reshape(-1) for array in arrays)
            kernels.adamw(p, g, m, v, without_decay, scale)
            param[at], exp_avg[at], exp_avg_sq[at] = p.reshape(-1, C), m.reshape(-1, C), v.reshape(-1, C)

        if of_all.decay != 1:
            for_each_block(len(param), 1, decay, C)
        for_each_block(len(rows), COST, update_rows, C)

    def load(self, means: Sequence[Array], given: Sequence[Array]) -> None:
        """Copy given arrays into both means, without writing zeros over zeros."""
        nonzero = given[0].any(axis=1) | given[1].any(axis=1)
        for mean, values in zip(means, given, strict=True):
            np.copyto(mean, values, where=(nonzero | self.marked)[:, None])
        self.marked[:] = nonzero
