"""Reverse-mode differentiation: a graph of nodes, and the walk back through it.  Knows arrays, but no operation.

Who owns a gradient: parameters add, activations assign.  A gradient is either fresh (made by the operation that hands
it on, so that the receiver may add into it) or borrowed (it may be in use elsewhere, and is never written to).

A gradient has the dtype of the array it belongs to, whatever the other operands were.  Of a complex gradient for a real
array the real part counts.  Complex arrays are differentiated as analytic functions are: d(z*z) = 2z dz, no conjugate.

Backward needs the arrays that forward kept as they were.  An optimizer's step and load_state_dict write to parameters,
and say so (`mark_changed`): a graph that needs the values from before raises an error.  Writing to an array behind a
Tensor (`t.data[...] = 0`) is not noticed, as PyTorch does not notice what is done to `.data`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, Self, TypeAlias, cast

import numpy as np

from .backend.contract import Array, Kernels, Sink

Gradient: TypeAlias = Array | Sink | None

_recording: ContextVar[bool] = ContextVar("recording", default=True)
_creation_numbers = count(1)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Operations within leave no graph behind.  Also a decorator.

    It holds for the thread that enters it, and the asyncio task; a thread started within records, as in PyTorch.
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def is_recording() -> bool:
    """Whether operations leave a graph behind: not so inside no_grad()."""
    return _recording.get()


class Node:
    """A place in the graph where gradients arrive, and are added up."""

    __slots__ = ("dtype", "grad", "inputs", "order", "owned")
    dtype: np.dtype[Any]  # of what the node stands for, and so of its gradient
    order: int  # of creation: a node depends on smaller ones only
    inputs: Sequence[Node | None]  # None where no gradient is wanted
    grad: Array | None
    owned: bool  # is `grad` ours to write to?

    def receive(self, gradient: Array, fresh: bool) -> None:
        """Add a gradient to what has come so far, in place wherever one of the two arrays is ours."""
        if self.grad is None:
            self.grad, self.owned = gradient, fresh
        elif self.owned:
            self.grad += gradient
        elif fresh:
            gradient += self.grad
            self.grad, self.owned = gradient, True
        else:
            self.grad, self.owned = self.grad + gradient, True


class Leaf(Node):
    """The place of a tensor that no operation made.  Its gradient stays after the walk.

    `buffer`, where given, is the memory in which the gradient lives (a view of a flat array, say).  It holds no
    gradient while `grad` is None, so zeroing a gradient costs nothing: the next one is written over the old.
    """

    __slots__ = ("buffer",)
    buffer: Array | None

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.order, self.inputs, self.grad, self.owned = 0, (), None, True
        self.dtype, self.buffer = dtype, None

    def sink(self, like: Array, kernels: Kernels) -> Sink:
        """Where an operation may leave the gradient by itself."""
        if self.grad is not None:
            return Sink(self.grad, add=True)
        if self.buffer is not None:
            return Sink(self.buffer, add=False)
        return Sink(kernels.xp.empty_like(like, dtype=self.dtype), add=False)

    def receive(self, gradient: Array, fresh: bool) -> None:
        if self.grad is not None:
            self.grad += gradient
        elif self.buffer is not None:
            self.buffer[...] = gradient
            self.grad = self.buffer
        else:
            kept = gradient if fresh else gradient.copy()
            self.grad = np.asarray(kept) if isinstance(kept, np.generic) else kept  # NumPy makes () arrays scalars

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle has the gradient, but not the buffer, which is part of an array of the optimizer's."""
        return Leaf, (self.dtype,), (None, {"grad": self.grad})


class Function(Node):
    """One operation.  An instance is one use of it, and its node in the graph.

    A subclass gives `forward(*arrays, **params)`, which leaves in `self.saved` what `backward` needs, and
    `backward(dy)`, which returns for each input its gradient, the sink it filled, or None where none is wanted.
    A gradient is a new array, a view, or dy itself; it is never another array that is still in use.
    """

    __slots__ = ("kernels", "saved")
    kernels: Kernels
    saved: Any

    def __init__(self) -> None:
        self.inputs, self.saved, self.grad = (), None, None

    def forward(self, *arrays: Any, **params: Any) -> Array:
        raise TypeError(f"{type(self).__name__} has no forward rule")

    def backward(self, dy: Array) -> Sequence[Gradient]:
        raise TypeError(f"{type(self).__name__} has no backward rule")

    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError(
            f"{type(self).__name__}: a Tensor that an operation made can be neither deep-copied nor pickled, for its "
            "graph cannot; use .detach()"
        )

    def __copy__(self) -> Self:
        """The same operation with the same inputs and arrays, for a walk over a copy of the graph."""
        twin = type(self).__new__(type(self))
        attributes, slots = cast("tuple[dict[str, Any] | None, dict[str, Any]]", object.__getstate__(self))
        for name, value in {**(attributes or {}), **slots}.items():
            setattr(twin, name, value)
        return twin

    def wants(self, i: int) -> bool:
        """Whether a gradient of input i will be asked for; in forward too, so that nothing is kept in vain."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def sink(self, i: int, like: Array) -> Sink | None:
        """Where backward is to leave the gradient of input i, shaped as `like`; None if nobody wants it."""
        node = self.inputs[i]
        if node is None:
            return None
        if isinstance(node, Leaf):
            if node.grad is None and sum(other is node for other in self.inputs) > 1:
                node.receive(self.kernels.xp.zeros_like(like), fresh=True)  # two sinks of one array: both must add
            return node.sink(like, self.kernels)
        return Sink(self.kernels.xp.empty_like(like, dtype=node.dtype), add=False)


def backward(root: Node, gradient: Array) -> None:
    """Walk back from root, newest node first, and free the graph on the way.

    The gradient has the shape of root's output.  Raises RuntimeError where the graph has been freed already, or where
    an array that it needs has been written to since: see mark_changed.
    """
    root.receive(_in_dtype(gradient, root.dtype), fresh=False)
    pending = [(-root.order, root)] if isinstance(root, Function) else []
    while pending:
        node = heappop(pending)[1]
        dy, node.grad = node.grad, None
        if dy is None or not node.inputs:
            raise RuntimeError(f"{type(node).__name__}: backward has been here before, and has freed the graph")
        if _last_change > node.order:
            _check_unchanged(node)
        for target, result in zip(node.inputs, _gradients(node, dy), strict=True):
            if target is None or result is None:
                continue
            if target.grad is None and isinstance(target, Function):
                heappush(pending, (-target.order, target))
            if isinstance(result, Sink):
                _delivered(target, result)
            elif result.dtype == target.dtype:
                target.receive(result, fresh=result is not dy and result.base is None)
            else:
                target.receive(_in_dtype(result, target.dtype), fresh=True)
        node.inputs, node.saved = (), None


def _gradients(node: Function, dy: Array) -> Sequence[Gradient]:
    """What an operation returns for each input; its errors get a note that names it."""
    try:
        gradients = node.backward(dy)
        if len(gradients) != len(node.inputs):
            raise TypeError(f"{len(gradients)} gradients were returned for {len(node.inputs)} inputs")
    except Exception as error:  # whatever it is, it goes on its way: only with a note
        error.add_note(f"in {type(node).__name__}.backward")
        raise
    return gradients


def _delivered(target: Node, sink: Sink) -> None:
    """An operation has filled a sink that it got from Function.sink."""
    if sink.add:
        return  # it was the target's own gradient, which has grown
    if isinstance(target, Leaf) and target.grad is None:
        target.grad = sink.array
    else:
        target.receive(sink.array, fresh=True)


def _in_dtype(gradient: Array, dtype: np.dtype[Any]) -> Array:
    """A gradient in the dtype of what it belongs to: the same array, or a new one."""
    if gradient.dtype == dtype:
        return gradient
    real: Array = gradient.real if gradient.dtype.kind == "c" and dtype.kind != "c" else gradient
    return real.astype(dtype)


def next_order() -> int:
    """The number of a new node."""
    return next(_creation_numbers)


# Arrays that are written to between forward and backward

_changes: dict[int, int] = {}  # id of an array that owns its memory -> the creation number of the last change
_last_change = 0


def mark_changed(array: Array) -> None:
    """Note that an array, or one that it is a view of, has been written to: graphs made before cannot use it.

    An id that a later array inherits does no harm: its own graphs are younger than the change.
    """
    global _last_change
    _last_change = _changes[_owner(array)] = next_order()


def _check_unchanged(node: Function) -> None:
    for array in _arrays_in(node.saved):
        if _changes.get(_owner(array), 0) > node.order:
            raise RuntimeError(
                f"{type(node).__name__}: a parameter {array.dtype}{list(array.shape)} was written to after forward "
                "(by an optimizer's step or load_state_dict); call backward() before that, or run forward again"
            )


def _owner(array: Array) -> int:
    return id(array if array.base is None else array.base)


def _arrays_in(saved: Any) -> Iterator[Array]:
    if isinstance(saved, tuple | list):
        for part in saved:
            yield from _arrays_in(part)
    elif hasattr(saved, "base"):
        yield saved
