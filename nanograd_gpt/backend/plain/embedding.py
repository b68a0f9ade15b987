"""Embedding lookup and its gradient."""

from __future__ import annotations

from ..array_namespace import array_namespace
from ..contract import Array, GradOut, Ints


def embedding(weight: Array, ids: Ints) -> Array:
    return weight[ids]


def embedding_backward(dy: Array, ids: Ints, dweight: GradOut) -> None:
    if not dweight.accumulate:
        dweight.array[...] = 0
    array_namespace(dy).add.at(dweight.array, ids, dy)  # an id may occur many times
