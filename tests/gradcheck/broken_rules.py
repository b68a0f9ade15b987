"""Deliberately broken rules, each a slip that somebody has made or could make.  A check that lets one pass is too weak.

A rule is a function of dy and of what forward was given, and returns the gradients; `true` gives the right ones, to be
spoilt.  What concerns sinks and memory instead overrides a method of the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Function, Leaf
from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import Array, GradOut
from nanograd_gpt.ops.axes import with_reduced_axes
from nanograd_gpt.ops.broadcasting import shape_of, unbroadcast

Operation = type[Function]
Rule = Callable[..., Sequence[Any]]  # (dy, *inputs, **params) -> gradients


class RuleFailsError(Exception):
    """A broken rule must return a wrong gradient, not None."""


def with_rule(op: Operation, rule: Rule) -> Operation:
    """The operation with another backward rule."""

    class Broken(op):  # type: ignore[misc, valid-type]  # mypy accepts no variable as a base class
        def forward(self, *inputs: Array, **params: Any) -> Array:
            y: Array = super().forward(*inputs, **params)
            self.saved = inputs, params
            return y

        def backward(self, dy: Array) -> Sequence[Any]:
            inputs, params = self.saved
            try:
                return rule(dy, *inputs, **params)
            except Exception as error:  # a crash would not show that the check works
                raise RuleFailsError from error

    return Broken


def true(op: Operation, dy: Array, *inputs: Array, **params: Any) -> list[Array]:
    """The right gradients."""
    node = op()
    node.kernels, node.parents = cpu, [Leaf(a.dtype) for a in inputs]
    node.forward(*inputs, **params)
    return [g.array if isinstance(g, GradOut) else g for g in node.backward(dy)]


def to(x: Array, gradient: Array) -> Array:
    """Summed over the axes along which x was repeated."""
    return unbroadcast(gradient, shape_of(x))


def widened(dy: Array, x: Array, axis: Any, keepdims: bool) -> Array:
    return np.broadcast_to(with_reduced_axes(dy, x.shape, axis, keepdims), x.shape)


def in_float32(a: Array) -> Array:
    return a.astype(np.float32).astype(np.float64)
