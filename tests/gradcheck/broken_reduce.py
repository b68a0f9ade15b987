"""Broken rules of the operations along axes: reductions and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.ops.activation import LogSoftmax, Softmax
from nanograd_gpt.ops.axes import with_reduced_axes
from nanograd_gpt.ops.reduce import LogSumExp, Max, Mean, Sum

from .broken_rules import Operation, Rule, in_float32, widened


def first_alone(dy: Array, x: Array, axis: Any, keepdims: bool) -> tuple[Array]:
    """The whole gradient to the first element along the last axis."""
    dx = np.array(widened(dy, x, axis, keepdims))
    dx[..., 1:] = 0
    return (dx,)


def max_rule(share: Callable[[Array, Any], Array]) -> Rule:
    return lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims) * share(x, axis),)


REDUCE: dict[Operation, dict[str, Rule]] = {
    Sum: {
        "a mean's": lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims) * (dy.size / max(1, x.size)),),
        "the sum of all dy": lambda dy, x, axis, keepdims: (np.full(x.shape, dy.sum()),),
        "the first element alone": first_alone,
        "not repeated": lambda dy, x, axis, keepdims: (with_reduced_axes(dy, x.shape, axis, keepdims),),
    },
    Mean: {
        "a sum's": lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims),),
        "share of the whole array": lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims) / max(1, x.size),),
        "share of the last axis": lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims) / x.shape[-1],),
        "share of n - 1": lambda dy, x, axis, keepdims: (
            widened(dy, x, axis, keepdims) / max(1, x.size // max(1, dy.size) - 1),
        ),
    },
    Max: {
        "all to everyone": max_rule(lambda x, axis: np.ones(x.shape)),
        "all to each of equal ones": max_rule(lambda x, axis: x == amax(x, axis)),
        "the largest of the whole array": max_rule(lambda x, axis: x == x.max(initial=-np.inf)),
        "the smallest": max_rule(lambda x, axis: x == -amax(-x, axis)),
        "equal shares of all": max_rule(lambda x, axis: np.full(x.shape, 1 / max(1, x.size))),
    },
    LogSumExp: {
        "exp forgotten": lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims) * (x - lse(x, axis)),),
        "not divided by the sum": lambda dy, x, axis, keepdims: (widened(dy, x, axis, keepdims) * np.exp(x),),
        "divided by the largest": lambda dy, x, axis, keepdims: (
            widened(dy, x, axis, keepdims) * np.exp(x - amax(x, axis)),
        ),
        "always the last axis": lambda dy, x, axis, keepdims: (
            widened(dy, x, axis, keepdims) * np.exp(x - lse(x, -1)),
        ),
    },
    Softmax: {
        "sum term forgotten": lambda dy, x, axis=-1: (dy * softmax(x, axis),),
        "sum over the other axis": lambda dy, x, axis=-1: (softmax_gradient(dy, softmax(x, axis), -1 - axis),),
        "sum over everything": lambda dy, x, axis=-1: (softmax_gradient(dy, softmax(x, axis), None),),
        "sum of dy without y": lambda dy, x, axis=-1: (softmax(x, axis) * (dy - dy.sum(axis, keepdims=True)),),
        "mean for the sum": lambda dy, x, axis=-1: (softmax(x, axis) * (dy - mean(dy * softmax(x, axis), axis)),),
        "dy multiplied in place": lambda dy, x, axis=-1: (softmax_gradient_in_place(dy, softmax(x, axis), axis),),
    },
    LogSoftmax: {
        "softmax term forgotten": lambda dy, x, axis=-1: (dy,),
        "sum of dy forgotten": lambda dy, x, axis=-1: (dy - softmax(x, axis) * dy,),
        "exp forgotten": lambda dy, x, axis=-1: (dy - (x - lse(x, axis)) * dy.sum(axis, keepdims=True),),
        "sum over everything": lambda dy, x, axis=-1: (dy - softmax(x, axis) * dy.sum(),),
        "float32 on the way": lambda dy, x, axis=-1: (
            dy - in_float32(softmax(x, axis)) * dy.sum(axis, keepdims=True),
        ),
    },
}  # fmt: skip


def amax(x: Array, axis: Any) -> Array:
    return x.max(axis=axis, keepdims=True, initial=-np.inf)


def mean(x: Array, axis: Any) -> Array:
    return x.sum(axis=axis, keepdims=True) / max(1, x.shape[axis])


def lse(x: Array, axis: Any) -> Array:
    return cpu.log_sum_exp(x, axis)


def softmax(x: Array, axis: Any) -> Array:
    return np.exp(x - lse(x, axis))


def softmax_gradient(dy: Array, y: Array, axis: Any) -> Array:
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def softmax_gradient_in_place(dy: Array, y: Array, axis: Any) -> Array:
    dy *= y
    return dy - y * dy.sum(axis=axis, keepdims=True)
