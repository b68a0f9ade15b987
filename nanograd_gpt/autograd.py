"""Reverse-mode differentiation: a graph of operations, and the backward pass through it.  Independent of any operation.

    a = np.array([3.0])
    x = Leaf(a.dtype)                          # holds the gradient of a
    y, node = record(Mul, [a, a], [x, x])      # y is a * a; the node records how it was computed
    backward(node, np.ones(1))                 # starts from dy/dy = 1; x.grad is 2 a = [6.]

A gradient has its array's dtype.  Complex arrays are differentiated as in an analytic function: d(z * z) = 2z dz.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .backend.contract import Array, GradOut, Ints, Kernels
from .backend.select import kernels_of
from .grad_mode import is_grad_enabled
from .nonzero_rows import NonzeroRows
from .pytorch_names import TorchFunction
from .rule_checks import check_result, check_returned
from .versions import check_unchanged, tick

Gradient: TypeAlias = Array | GradOut | None


class Node:
    """A node of the graph, where gradients accumulate."""

    __slots__ = ("dtype", "grad", "order", "owned", "parents")
    dtype: np.dtype[Any]  # of its array, and so of its gradient
    grad: Array | None
    order: int  # of creation: a node's parents are older
    owned: bool  # whether `grad` may be changed in place
    parents: Sequence[Node | None]  # one per input; None where no gradient is needed


class Leaf(Node):
    """The node of a tensor that no operation made.  Its gradient is kept after the backward pass.

    `buffer`, if set, is the memory for the gradient, such as a view of a flat array.  Its contents are meaningless
    while `grad` is None: zeroing a gradient is free, and the next one overwrites the old.
    `rows`, if set, are the rows of the buffer that may be other than zero.
    """

    __slots__ = ("buffer", "rows")
    buffer: Array | None
    rows: NonzeroRows | None

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype, self.grad, self.order, self.parents, self.owned = dtype, None, 0, (), True
        self.buffer = self.rows = None

    def own_memory(self, ids: Ints | None = None) -> GradOut | None:
        """The gradient, or memory for a first one, to write to the rows `ids` [all]; None without either."""
        if (array := self.buffer if self.grad is None else self.grad) is None:
            return None
        out = GradOut(array, accumulate=self.grad is not None)
        return out if self.rows is None else self.rows.written(out, ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the gradient, but not the buffer, which belongs to an optimizer's array."""
        return Leaf, (self.dtype,), (None, {"grad": self.grad})


class Function(Node, TorchFunction):
    """An operation; an instance is one call of it, and its node in the graph.

    A subclass defines `forward(*arrays, **params)`, which stores what `backward` needs in `self.saved`, and
    `backward(dy)`, which returns for each input its gradient, the GradOut it filled, or None if not needed.
    A gradient is a new array, a view, or dy itself, and never another array that is still in use.
    """

    __slots__ = ("kernels", "saved")
    takes_numbers: ClassVar[bool] = False  # False: forward gets a plain number beside arrays as a 0-d array
    takes_bfloat16: ClassVar[bool] = False  # False: forward gets an array of bfloat16 in float32
    kernels: Kernels
    saved: Any

    def __init__(self) -> None:
        self.grad, self.parents, self.saved = None, (), None

    def forward(self, *arrays: Any, **params: Any) -> Array:
        raise TypeError(f"{type(self).__name__} has no forward rule")

    def backward(self, dy: Array) -> Sequence[Gradient]:
        raise TypeError(f"{type(self).__name__} has no backward rule")

    def needs_input_grad(self, i: int) -> bool:
        """Whether input i needs a gradient; valid in forward too, so that nothing is saved without need."""
        return i < len(self.parents) and self.parents[i] is not None

    def grad_out(self, i: int, like: Array, ids: Ints | None = None) -> GradOut | None:
        """Memory for input i's gradient, shaped as `like`, zero but in rows `ids` [any]; None if it is not needed."""
        parent = self.parents[i]
        if parent is None:
            return None
        if isinstance(parent, Leaf) and parent.grad is None and sum(other is parent for other in self.parents) > 1:
            accumulate_grad(parent, self.kernels.xp.zeros_like(like, dtype=parent.dtype), fresh=True)
        own = parent.own_memory(ids) if isinstance(parent, Leaf) else None
        return own or GradOut(self.kernels.xp.empty_like(like, dtype=parent.dtype), accumulate=False)

    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError(f"{type(self).__name__}: a Tensor with a graph cannot be copied or pickled; use .detach()")


def record(
    op: type[Function], arrays: Sequence[Any], parents: Sequence[Node | None], params: Mapping[str, Any] | None = None
) -> tuple[Array, Function | None]:
    """Run an operation on arrays, whose nodes are `parents`; returns the result, and the node if it was recorded."""
    params, node = params or {}, op()
    recorded = is_grad_enabled() and any(parents)
    node.parents = parents if recorded else ()
    node.kernels = kernels_of(*arrays, *params.values())  # params: for where(array, 1, 2), whose inputs are numbers
    out = node.forward(*(arrays if op.takes_bfloat16 else node.kernels.without_bfloat16(arrays)), **params)
    check_result(node, arrays, params, out)
    node.order, node.dtype = tick(), out.dtype
    return out, node if recorded else None


def backward(root: Node, gradient: Array, delivered: Callable[[Function], object] | None = None) -> None:
    """Add d(root)/d(leaf), weighted by `gradient` (root's shape), to every leaf's gradient; frees the graph.

    The newest node comes first, and so each comes after all nodes that used its result.
    delivered: called with each operation when its inputs' gradients have been added [None]
    Raises RuntimeError if the graph was freed before, or an array that it needs was written to since forward.
    """
    accumulate_grad(root, _in_dtype(gradient, root.dtype), fresh=False)
    pending = [(-root.order, root)] if isinstance(root, Function) else []
    while pending:
        node = heappop(pending)[1]
        dy, node.grad = node.grad, None
        for parent, result in zip(node.parents, input_grads(node, dy), strict=True):
            if parent is None or result is None:
                continue
            if parent.grad is None and isinstance(parent, Function):
                heappush(pending, (-parent.order, parent))
            deliver(parent, result, dy)
        if delivered is not None:
            delivered(node)
        node.parents, node.saved = (), None


def input_grads(node: Function, dy: Array | None) -> Sequence[Gradient]:
    """Call an operation's backward, with its name added to errors as a note."""
    name = type(node).__name__
    if dy is None or not node.parents:
        raise RuntimeError(f"{name}: backward was called before and freed the graph; run forward again")
    check_unchanged(name, node.saved, node.order)
    try:
        gradients = node.backward(dy)
        check_returned(node, gradients, len(node.parents), dy)
    except Exception as error:  # whatever a rule raises gets a note with its name, and is raised again
        error.add_note(f"in {name}.backward")
        raise
    return gradients


# Without copies: a gradient is fresh (may be changed in place) or borrowed (shared with others, never written to)


def deliver(parent: Node, result: Array | GradOut, dy: Array | None) -> None:
    """Add what a backward returned for an input, where dy is its own gradient, to that of the input's node."""
    if not isinstance(result, GradOut):
        gradient = _in_dtype(result, parent.dtype)
        # borrowed: dy may be another input's gradient too, and a view shares memory with its base
        borrowed = gradient is result and (result is dy or result.base is not None)
        accumulate_grad(parent, gradient, fresh=not borrowed)
    elif isinstance(parent, Leaf) and parent.grad is None:
        parent.grad = result.array
    elif not result.accumulate:  # else it is the parent's own gradient, added to in place
        accumulate_grad(parent, result.array, fresh=True)


def accumulate_grad(node: Node, gradient: Array, fresh: bool) -> None:
    """Add a gradient to the node's, in place if either array may be changed."""
    if isinstance(node, Leaf) and (out := node.own_memory()) is not None:
        out.write(gradient)
        node.grad = out.array
    elif node.grad is None:
        if isinstance(node, Leaf) and not fresh:
            gradient, fresh = gradient.copy(), True
        node.grad, node.owned = np.asarray(gradient) if isinstance(gradient, np.generic) else gradient, fresh
    elif node.owned:
        node.grad += gradient
    elif fresh:
        gradient += node.grad
        node.grad, node.owned = gradient, True
    else:
        node.grad, node.owned = node.grad + gradient, True


def _in_dtype(gradient: Array, dtype: np.dtype[Any]) -> Array:
    """The gradient cast to dtype: for a real array, the real part of a complex gradient."""
    if gradient.dtype == dtype:
        return gradient
    return (gradient if dtype.kind == "c" else gradient.real).astype(dtype)  # always a copy: .real is a view
