"""Reverse-mode differentiation: a graph of operations, and the walk back through it.  Knows arrays, but no operation.

    a = np.array([3.0])
    x = Leaf(a.dtype)                          # the place where the gradient of a will be
    y, node = record(Mul, [a, a], [x, x])      # y is a * a; the node remembers how it came about
    backward(node, np.ones(1))                 # dy/dy = 1, so that x.grad is 2 a = [6.]

A gradient has its array's dtype.  Complex arrays are differentiated as analytic functions are: d(z * z) = 2z dz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, TypeAlias

import numpy as np

from .backend.contract import Array, GradOut, Kernels
from .backend.select import kernels_of
from .grad_mode import is_grad_enabled
from .versions import changed_since, tick

Gradient: TypeAlias = Array | GradOut | None

# The graph


class Node:
    """A place in the graph where gradients arrive, and are added up."""

    __slots__ = ("dtype", "grad", "order", "owned", "parents")
    dtype: np.dtype[Any]  # of the array it stands for, and so of its gradient
    grad: Array | None
    order: int  # of creation: a node's parents are older
    owned: bool  # whether `grad` may be written to
    parents: Sequence[Node | None]  # None where no gradient is needed


class Leaf(Node):
    """The place of a tensor that no operation made.  Its gradient stays after the walk.

    `buffer`, where given, is the memory in which the gradient lives (a view of a flat array, say).  It holds no
    gradient while `grad` is None, so zeroing a gradient costs nothing: the next one is written over the old.
    """

    __slots__ = ("buffer",)
    buffer: Array | None

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype, self.grad, self.order, self.owned, self.parents, self.buffer = dtype, None, 0, True, (), None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the gradient, but not the buffer, which is part of an optimizer's array."""
        return Leaf, (self.dtype,), (None, {"grad": self.grad})


class Function(Node):
    """One operation.  An instance is one use of it, and its node in the graph.

    A subclass gives `forward(*arrays, **params)`, which leaves in `self.saved` what `backward` needs, and
    `backward(dy)`, which returns for each input its gradient, the GradOut it filled, or None where none is needed.
    A gradient is a new array, a view, or dy itself; it is never another array that is still in use.
    """

    __slots__ = ("kernels", "saved")
    kernels: Kernels
    saved: Any

    def __init__(self) -> None:
        self.grad, self.parents, self.saved = None, (), None

    def forward(self, *arrays: Any, **params: Any) -> Array:
        raise TypeError(f"{type(self).__name__} has no forward rule")

    def backward(self, dy: Array) -> Sequence[Gradient]:
        raise TypeError(f"{type(self).__name__} has no backward rule")

    def needs_input_grad(self, i: int) -> bool:
        """Whether a gradient of input i will be asked for; in forward too, so that nothing is kept in vain."""
        return i < len(self.parents) and self.parents[i] is not None

    def grad_out(self, i: int, like: Array) -> GradOut | None:
        """Memory for the gradient of input i, shaped as `like`; None if it is not needed."""
        parent = self.parents[i]
        if parent is None:
            return None
        if isinstance(parent, Leaf):
            if parent.grad is None and sum(other is parent for other in self.parents) > 1:
                accumulate_grad(
                    parent, self.kernels.xp.zeros_like(like, dtype=parent.dtype), fresh=True
                )  # both will add to it
            if parent.grad is not None:
                return GradOut(parent.grad, accumulate=True)
            if parent.buffer is not None:
                return GradOut(parent.buffer, accumulate=False)
        return GradOut(self.kernels.xp.empty_like(like, dtype=parent.dtype), accumulate=False)

    def __reduce__(self) -> tuple[Any, ...]:
        name = type(self).__name__
        raise RuntimeError(f"{name}: a Tensor with a graph can be neither deep-copied nor pickled; use .detach()")


def record(
    op: type[Function], arrays: Sequence[Any], parents: Sequence[Node | None], params: Mapping[str, Any] | None = None
) -> tuple[Array, Function | None]:
    """Run an operation on arrays, whose nodes are the parents; returns its result, and its node if it is recorded."""
    params, node = params or {}, op()
    recorded = is_grad_enabled() and any(parents)
    if recorded:
        node.parents = parents
    node.kernels = kernels_of(*arrays, *params.values())  # a parameter's array decides if all inputs are numbers
    out = node.forward(*arrays, **params)
    if not recorded:
        return out, None
    node.order, node.dtype = tick(), out.dtype
    return out, node


# The walk back, newest node first: when a node's turn comes, all that used its result have been there


def backward(root: Node, gradient: Array) -> None:
    """Add d(root)/d(leaf) times a gradient (of root's shape) to every leaf's, and free the graph on the way.

    Raises RuntimeError where the graph has been freed already, or an array that it needs has been written to since.
    """
    accumulate_grad(root, _in_dtype(gradient, root.dtype), fresh=False)
    pending = [(-root.order, root)] if isinstance(root, Function) else []
    while pending:
        node = heappop(pending)[1]
        dy, node.grad = node.grad, None
        for parent, result in zip(node.parents, _input_grads(node, dy), strict=True):
            if parent is None or result is None:
                continue
            if parent.grad is None and isinstance(parent, Function):
                heappush(pending, (-parent.order, parent))
            _deliver(parent, result, dy)
        node.parents, node.saved = (), None


def _input_grads(node: Function, dy: Array | None) -> Sequence[Gradient]:
    """Call an operation's backward; errors get a note that names it."""
    name = type(node).__name__
    if dy is None or not node.parents:
        raise RuntimeError(f"{name}: backward has been here before, and has freed the graph")
    if (array := changed_since(node.saved, node.order)) is not None:
        raise RuntimeError(
            f"{name}: a parameter {array.dtype}{list(array.shape)} was written to after forward (by an optimizer's "
            "step or load_state_dict); call backward() before that, or run forward again"
        )
    try:
        gradients = node.backward(dy)
        if len(gradients) != len(node.parents):
            raise TypeError(f"{len(gradients)} gradients were returned for {len(node.parents)} inputs")
    except Exception as error:  # whatever it is, it is raised again, with a note
        error.add_note(f"in {name}.backward")
        raise
    return gradients


# Without copies: parameters add, activations assign.  A gradient is fresh (ours to add to) or borrowed (left alone)


def _deliver(parent: Node, result: Array | GradOut, dy: Array | None) -> None:
    if isinstance(result, GradOut):
        if isinstance(parent, Leaf) and parent.grad is None:
            parent.grad = result.array
        elif not result.accumulate:  # else it was the parent's own gradient, which has grown in place
            accumulate_grad(parent, result.array, fresh=True)
    elif result.dtype == parent.dtype:
        # dy may go to another input too, and a view shares its memory with whatever it is a view of
        accumulate_grad(parent, result, fresh=result is not dy and result.base is None)
    else:
        accumulate_grad(parent, _in_dtype(result, parent.dtype), fresh=True)


def accumulate_grad(node: Node, gradient: Array, fresh: bool) -> None:
    """Add a gradient to what has come so far, in place wherever one of the two arrays is ours."""
    if node.grad is None:
        node.grad, node.owned = (
            (_first_gradient(node, gradient, fresh), True) if isinstance(node, Leaf) else (gradient, fresh)
        )
    elif node.owned:
        node.grad += gradient
    elif fresh:
        gradient += node.grad
        node.grad, node.owned = gradient, True
    else:
        node.grad, node.owned = node.grad + gradient, True


def _first_gradient(leaf: Leaf, gradient: Array, fresh: bool) -> Array:
    """The first gradient of a leaf, in memory that is the leaf's own."""
    if leaf.buffer is not None:
        leaf.buffer[...] = gradient
        return leaf.buffer
    kept = gradient if fresh else gradient.copy()
    return np.asarray(kept) if isinstance(kept, np.generic) else kept  # NumPy makes 0-d results scalars


def _in_dtype(gradient: Array, dtype: np.dtype[Any]) -> Array:
    """The gradient in another dtype; of a complex one for a real array, the real part."""
    if gradient.dtype == dtype:
        return gradient
    real = gradient.real if gradient.dtype.kind == "c" and dtype.kind != "c" else gradient
    return real.astype(dtype)  # a copy, always: .real is a view
