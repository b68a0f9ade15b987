"""Backward to the token embeddings alone, which leaves the parameters' gradients as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..autograd import Function, Leaf, Node
from ..gpt.model import GPTModel
from ..ops.embedding import Embedding
from .watch import Recorded, Watcher


class TokenVectors(Watcher):
    """Makes the token embeddings the only leaf: the parameters take part as constants, and get no gradient."""

    def __init__(self, model: GPTModel) -> None:
        self.parameters = {p.node for p in model.parameters()}
        self.table = model.tok_emb.weight.data
        self.vectors: Any = None  # (B, T, C)
        self.leaf = Leaf(self.table.dtype)

    def forward(
        self,
        run: Callable[..., Recorded],
        op: type[Function],
        arrays: Sequence[Any],
        parents: Sequence[Node | None],
        params: Mapping[str, Any],
    ) -> Recorded:
        """Run an operation without its parameters' nodes; an embedding of tokens starts the graph."""
        parents = [None if parent in self.parameters else parent for parent in parents]
        out, node = run(op, arrays, parents, params)
        if op is Embedding and arrays[0] is self.table:
            self.vectors = out
            return out, self.leaf
        return out, node
