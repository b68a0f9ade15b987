"""Looking rows up by id, and summing gradients back into the rows."""

from __future__ import annotations

from ..contract import Array, Ints, Sink
from ..namespace import namespace


def embedding(weight: Array, ids: Ints) -> Array:
    y: Array = weight[ids]
    return y


def embedding_backward(dy: Array, ids: Ints, dweight: Sink) -> None:
    if not dweight.add:
        dweight.array[...] = 0
    namespace(dy).add.at(dweight.array, ids, dy)  # an id may occur many times
