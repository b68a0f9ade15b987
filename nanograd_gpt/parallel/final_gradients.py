"""The moment at which a leaf's gradient is final in a backward pass, from which on it can be sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..autograd import Function, Leaf, Node


class FinalGradients:
    """Tells `when_final` each leaf behind a root, as soon as the walk back from it adds no more to its gradient.

    A parameter may be an input of several operations, such as the weight that a tied head shares with the embedding:
    its uses are counted before the walk.
    """

    def __init__(self, root: Node, when_final: Callable[[Leaf], object]) -> None:
        self.when_final = when_final
        self.uses: Counter[Node] = Counter()
        seen, pending = {root}, [root]
        while pending:
            for parent in pending.pop().parents:
                if isinstance(parent, Leaf):
                    self.uses[parent] += 1
                elif parent is not None and parent not in seen:
                    seen.add(parent)
                    pending.append(parent)

    def delivered(self, node: Function) -> None:
        """Count the uses that an operation was: autograd.backward calls this."""
        for parent in node.parents:
            if isinstance(parent, Leaf):
                self.uses[parent] -= 1
                if not self.uses[parent]:
                    self.when_final(parent)
