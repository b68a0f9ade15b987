"""The flat gradient in parts of a few megabytes, each of which is sent as soon as all of it is final."""

from __future__ import annotations

from collections.abc import Callable

from ..autograd import Leaf
from ..nn.flat import FlatParameters


class Buckets:
    """Slices of the flat gradient, each of whole parameters, from its end to its beginning.

    send                function of a slice, called once in a pass for each, in the order in which they become final:
                        that of the graph, and so the same on all ranks
    nbytes              int >= 1: the least size of a slice; only the last may be smaller
    """

    def __init__(self, flat: FlatParameters, send: Callable[[slice], object], nbytes: int) -> None:
        self.send = send
        self.slices: list[slice] = []
        self.members: list[int] = []  # parameters of each
        self.of: dict[Leaf, int] = {}
        stop, members = flat.grad.size, list[Leaf]()
        for p, end in zip(reversed(flat.parameters), reversed(flat.ends), strict=True):
            start = end - p.size
            assert isinstance(p.node, Leaf)  # FlatParameters takes no others
            members.append(p.node)
            if (stop - start) * flat.grad.itemsize >= nbytes or start == 0:
                self.of |= dict.fromkeys(members, len(self.slices))
                self.slices.append(slice(start, stop))
                self.members.append(len(members))
                stop, members = start, []
        self.missing = list(self.members)  # of each slice in the present pass

    def final(self, leaf: Leaf) -> None:
        """Note that a parameter's gradient is final."""
        i = self.of.get(leaf)
        if i is None:  # not a parameter of the optimizer
            return
        self.missing[i] -= 1
        if not self.missing[i]:
            self.send(self.slices[i])

    def send_rest(self) -> None:
        """Send what is left, with parameters that have no gradient, and begin the next pass."""
        for missing, part in zip(self.missing, self.slices, strict=True):
            if missing:
                self.send(part)
        self.missing = list(self.members)
