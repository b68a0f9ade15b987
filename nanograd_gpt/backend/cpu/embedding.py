"""Embedding lookup and its gradient: dy is sorted by id, so that each row of dweight is written once."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut, Ints

FEW = 4  # rows of an id, at most, that are added along with those of other ids; reduceat adds more in another order


def embedding(weight: Array, ids: Ints) -> Array:
    return np.take(weight, ids, axis=0)


def embedding_backward(dy: Array, ids: Ints, dweight: GradOut) -> None:
    if not dweight.accumulate:
        dweight.array[...] = 0
    flat_ids, flat_dy = ids.reshape(-1), dy.reshape(ids.size, dy.shape[-1])
    if not len(flat_ids):
        return
    order = np.argsort(flat_ids, kind="stable")
    in_order = flat_ids[order]
    starts = np.concatenate([[0], np.flatnonzero(in_order[1:] != in_order[:-1]) + 1])
    dweight.array[in_order[starts]] += _sums(flat_dy, order, starts)


def _sums(dy: Array, order: Ints, starts: Ints) -> Array:
    """The sums of np.add.reduceat(dy[order], starts), which takes a microsecond or more for each; in its order."""
    counts = np.diff(starts, append=len(order))
    sums: Array = dy[order[starts]]
    few = np.flatnonzero((counts > 1) & (counts <= FEW))
    if len(few):
        first, others = starts[few], dy[order[starts[few] + 1]]
        for i in range(2, FEW):
            some = counts[few] > i
            others[some] += dy[order[first[some] + i]]
        sums[few] += others
    many = counts > FEW
    if many.any():
        its_starts = np.cumsum(counts[many]) - counts[many]
        sums[many] = np.add.reduceat(dy[order[np.repeat(many, counts)]], its_starts, axis=0)
    return sums
