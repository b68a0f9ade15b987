"""Embedding lookup."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array, Ints
from .token_ids import check_ids


class Embedding(Function):
    """Rows of weight, looked up by id; checked=True skips the check of ids that were checked before.

    weight (V, C), ids (...)  ->  y (..., C)
    """

    __slots__ = ()

    def forward(self, weight: Array, *, ids: Ints, checked: bool = False) -> Array:
        if weight.ndim != 2:
            raise ValueError(f"weight has shape {weight.shape}, expected (V, C)")
        self.saved = weight, ids
        return self.kernels.embedding(weight, ids if checked else check_ids(ids, len(weight)))

    def backward(self, dy: Array) -> tuple[Gradient]:
        weight, ids = self.saved
        dweight = self.grad_out(0, weight, ids)
        if dweight is not None:
            self.kernels.embedding_backward(dy, ids, dweight)
        return (dweight,)
