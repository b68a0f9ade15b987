"""Faults of an engine, each as a block in which this one has it; random graphs must find every one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

from nanograd_gpt import autograd, tensor
from nanograd_gpt.autograd import Function, Leaf, accumulate_grad
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.ops import elementwise
from nanograd_gpt.ops.broadcasting import unbroadcast
from nanograd_gpt.ops.elementwise import Tanh
from nanograd_gpt.ops.shape import Transpose
from nanograd_gpt.tensor import Tensor


def first_of_the_repeated(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of one of an array's copies, in place of the sum."""
    if gradient.shape == shape:
        return gradient
    padded = (1,) * (gradient.ndim - len(shape)) + shape
    where = tuple(slice(0, 1) if n == 1 else slice(None) for n in padded)
    return gradient[where].reshape(shape) if gradient.size else unbroadcast(gradient, shape)


def overwriting(node: Any, gradient: Array, fresh: bool) -> None:
    """A leaf's gradient replaced by the next one."""
    if isinstance(node, Leaf) and node.grad is not None:
        node.grad[...] = gradient
    else:
        accumulate_grad(node, gradient, fresh)


def counted_once(node: Any, gradient: Array, fresh: bool) -> None:
    """The first use of a shared result alone."""
    if isinstance(node, Leaf) or node.grad is None:
        accumulate_grad(node, gradient, fresh)


def all_fresh(node: Any, gradient: Array, fresh: bool) -> None:
    """A borrowed gradient of a result, which others read too, added to in place."""
    accumulate_grad(node, gradient, fresh or (not isinstance(node, Leaf) and gradient.flags.writeable))


def saved_and_written_over(op: Any, dy: Array) -> tuple[Array]:
    """The result itself as the memory of the gradient."""
    y = op.saved
    y *= -y
    y += 1
    y *= dy
    return (y,)


def axes_not_inverted(op: Any, dy: Array) -> tuple[Array]:
    """The permutation of the forward once more."""
    return (dy.transpose(op.saved),)


def without_freeing(root: Any, gradient: Array) -> None:
    """The graph stays as it was, and a second pass through it is not noticed."""
    accumulate_grad(root, gradient, fresh=False)
    pending = {root} if isinstance(root, Function) else set()
    while pending:
        node = max(pending, key=lambda node: node.order)
        pending.remove(node)
        dy, node.grad = node.grad, None
        for parent, result in zip(node.parents, autograd.input_grads(node, dy), strict=True):
            if parent is not None and result is not None:
                if isinstance(parent, Function):
                    pending.add(parent)
                autograd.deliver(parent, result, dy)


FAULTS: dict[str, Callable[[], Any]] = {
    "a broadcast gradient is not summed": partial(patch.object, elementwise, "unbroadcast", first_of_the_repeated),
    "accumulation overwrites": partial(patch.object, autograd, "accumulate_grad", overwriting),
    "a shared result counts once": partial(patch.object, autograd, "accumulate_grad", counted_once),
    "a borrowed gradient is added to": partial(patch.object, autograd, "accumulate_grad", all_fresh),
    "a saved result is written over": partial(patch.object, Tanh, "backward", saved_and_written_over),
    "axes are not inverted": partial(patch.object, Transpose, "backward", axes_not_inverted),
    "detach does not detach": partial(patch.object, Tensor, "detach", lambda self: self),
    "a graph is not freed": partial(patch.object, tensor, "backward", without_freeing),
}
