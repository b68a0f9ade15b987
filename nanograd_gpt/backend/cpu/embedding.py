"""Embedding lookup and its gradient: dy is sorted by id, so that each row of dweight is written once."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut, Ints


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
    dweight.array[in_order[starts]] += np.add.reduceat(flat_dy[order], starts, axis=0)
