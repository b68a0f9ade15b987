"""Deliberately broken rules, each a slip that somebody has made or could make.  A check that lets one pass is too weak.

A rule is a function of dy and of what forward was given, and returns the gradients; `true` gives the right ones, to be
spoilt.  What concerns sinks and memory instead overrides a method of the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import erf, pi, prod, sqrt
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Function, Leaf
from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import Array, Sink
from nanograd_gpt.backend.plain.loss import chunks
from nanograd_gpt.ops.activation import GELU, LogSoftmax, Softmax
from nanograd_gpt.ops.attention import CausalAttention
from nanograd_gpt.ops.broadcasting import shape_of, unbroadcast
from nanograd_gpt.ops.dropout import Dropout
from nanograd_gpt.ops.elementwise import Add, Div, Exp, Log, Maximum, Mul, Neg, Pow, Sqrt, Sub, Tanh, Where
from nanograd_gpt.ops.embedding import Embedding
from nanograd_gpt.ops.loss import CrossEntropy, LinearCrossEntropy
from nanograd_gpt.ops.matmul import Linear, LinearGELU, MatMul, SideBySide
from nanograd_gpt.ops.norm import LayerNorm
from nanograd_gpt.ops.reduce import LogSumExp, Max, Mean, Sum, with_reduced_axes
from nanograd_gpt.ops.shape import BroadcastTo, Concatenate, GetItem, Reshape, Stack, Transpose

Operation = type[Function]
Rule = Callable[..., Sequence[Any]]  # (dy, *inputs, **params) -> gradients


class RuleFailsError(Exception):
    """A broken rule must give a wrong answer; it may not give none."""


def with_rule(op: Operation, rule: Rule) -> Operation:
    """The operation with another backward rule."""

    class Broken(op):  # type: ignore[misc, valid-type]
        def forward(self, *inputs: Array, **params: Any) -> Array:
            y: Array = super().forward(*inputs, **params)
            self.saved = inputs, params
            return y

        def backward(self, dy: Array) -> Sequence[Any]:
            inputs, params = self.saved
            try:
                return rule(dy, *inputs, **params)
            except Exception as error:
                raise RuleFailsError from error

    return Broken


def true(op: Operation, dy: Array, *inputs: Array, **params: Any) -> list[Array]:
    """The right gradients."""
    node = op()
    node.kernels, node.inputs = cpu, [Leaf(a.dtype) for a in inputs]
    node.forward(*inputs, **params)
    return [g.array if isinstance(g, Sink) else g for g in node.backward(dy)]


def to(x: Array, gradient: Array) -> Array:
    """Summed over the axes along which x was repeated."""
    return unbroadcast(gradient, shape_of(x))


def widened(dy: Array, x: Array, axis: Any, keepdims: bool) -> Array:
    return np.broadcast_to(with_reduced_axes(dy, x.shape, axis, keepdims), x.shape)


def in_float32(a: Array) -> Array:
    return a.astype(np.float32).astype(np.float64)


# Elementwise

ELEMENTWISE: dict[Operation, dict[str, Rule]] = {
    Add: {
        "right side twice": lambda dz, x, y: (to(x, dz), to(y, 2 * dz)),
        "a repeated element takes the mean": lambda dz, x, y: (to(x, dz), to(y, dz) * (y.size / max(1, dz.size))),
        "one new array for both": lambda dz, x, y: (g := to(x, 1 * dz), g if x.shape == y.shape else to(y, dz)),
        "nothing for the right one of two equal arrays": lambda dz, x, y: (to(x, dz), None if y is x else to(y, dz)),
        "not summed where repeated": lambda dz, x, y: (dz, dz),
    },
    Sub: {
        "sign of the right side": lambda dz, x, y: (to(x, dz), to(y, dz)),
        "negated in place": lambda dz, x, y: (to(x, dz), to(y, np.negative(dz, out=dz))),
    },
    Mul: {
        "operands swapped": lambda dz, x, y: (to(x, dz * x), to(y, dz * y)),
        "float32 on the way": lambda dz, x, y: (to(x, in_float32(dz * y)), to(y, dz * x)),
        "a square counted once": lambda dz, x, y: (to(x, dz * y), None if y is x else to(y, dz * x)),
    },
    Div: {
        "sign of the denominator": lambda dz, x, y: (to(x, dz / y), to(y, dz * x / y**2)),
        "denominator not squared": lambda dz, x, y: (to(x, dz / y), to(y, -dz * x / y)),
        "numerator not divided": lambda dz, x, y: (to(x, dz + 0 * y), to(y, -dz * x / y**2)),
        "numerator forgotten below": lambda dz, x, y: (to(x, dz / y), to(y, -dz / y**2)),
    },
    Neg: {
        "sign": lambda dy, x: (dy,),
        "in place": lambda dy, x: (np.negative(dy, out=dy),),
    },
    Pow: {
        "exponent not lowered": lambda dz, x, y: (to(x, dz * y * x**y), to(y, dz * x**y * log(x))),
        "exponent not in front": lambda dz, x, y: (to(x, dz * x ** (y - 1)), to(y, dz * x**y * log(x))),
        "log of the exponent": lambda dz, x, y: (to(x, dz * y * x ** (y - 1)), to(y, dz * x**y * log(y))),
        "log forgotten": lambda dz, x, y: (to(x, dz * y * x ** (y - 1)), to(y, dz * x**y)),
        "by logs, blind below 0": lambda dz, x, y: (
            to(x, dz * y * np.exp((y - 1) * log(x))), to(y, dz * x**y * log(x))
        ),
    },
    Exp: {
        "slope of the input": lambda dy, x: (dy * x,),
        "float32 on the way": lambda dy, x: (dy * in_float32(np.exp(x)),),
    },
    Log: {
        "base 10": lambda dy, x: (dy / (x * np.log(10)),),
        "of 1 + x": lambda dy, x: (dy / (1 + x),),
        "times x": lambda dy, x: (dy * x,),
    },
    Sqrt: {
        "half forgotten": lambda dy, x: (dy / np.sqrt(x),),
        "divided by x": lambda dy, x: (0.5 * dy / x,),
    },
    Tanh: {
        "output not squared": lambda dy, x: (dy * (1 - np.tanh(x)),),
        "square of the input": lambda dy, x: (dy * (1 - x * x),),
        "cosh not squared": lambda dy, x: (dy / np.cosh(x),),
    },
    Maximum: {
        "the smaller gets it": lambda dz, x, y: (to(x, dz * (x < y)), to(y, dz * (x >= y))),
        "equal ones get it all": lambda dz, x, y: (to(x, dz * (x >= y)), to(y, dz * (y >= x))),
        "both get half": lambda dz, x, y: (to(x, dz / 2), to(y, dz / 2)),
        "right side always": lambda dz, x, y: (to(x, dz * (x >= y)), to(y, dz)),
    },
    Where: {
        "inverted": lambda dz, x, y, condition: (to(x, dz * ~condition), to(y, dz * condition)),
        "no condition on the right": lambda dz, x, y, condition: (to(x, dz * condition), to(y, dz)),
        "condition as a sign": lambda dz, x, y, condition: (to(x, dz * condition), to(y, -dz * ~condition)),
    },
}  # fmt: skip


def log(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.log(x)


# Along axes


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


# Shape


def assigned(dy: Array, x: Array, index: Any) -> tuple[Array]:
    dx = np.zeros(x.shape)
    dx[index] = dy
    return (dx,)


def added_to_ones(dy: Array, x: Array, index: Any) -> tuple[Array]:
    dx = np.ones(x.shape)
    np.add.at(dx, index, dy)
    return (dx,)


def cut(dy: Array, arrays: Sequence[Array], axis: int, shift: int) -> list[Array]:
    """dy cut where the arrays end, `shift` elements too far."""
    ends = np.cumsum([a.shape[axis] for a in arrays])
    return np.split(np.roll(dy, -shift, axis), ends[:-1], axis)


SHAPE: dict[Operation, dict[str, Rule]] = {
    Reshape: {
        "columns first": lambda dy, x, shape: (dy.reshape(x.shape, order="F"),),
        "left in the new shape": lambda dy, x, shape: (dy,),
    },
    Transpose: {
        "not inverted": lambda dy, x, axes: (dy.transpose(axes),),
        "reversed": lambda dy, x, axes: (dy.T,),
        "reshaped": lambda dy, x, axes: (dy.reshape(x.shape),),
    },
    BroadcastTo: {
        "mean for the sum": lambda dy, x, shape: (to(x, dy) * (x.size / max(1, prod(shape))),),
        "the first of the repeated": lambda dy, x, shape: (to(x, np.where(np.indices(dy.shape)[0] == 0, dy, 0)),),
        "new axes alone summed": lambda dy, x, shape: (dy.sum(axis=tuple(range(dy.ndim - x.ndim))),),
    },
    GetItem: {
        "assigned where indices repeat": assigned,
        "added to ones": added_to_ones,
    },
    Concatenate: {
        "offsets one too far": lambda dy, *arrays, axis: cut(dy, arrays, axis, 1),
        "equal lengths assumed": lambda dy, *arrays, axis: np.array_split(dy, len(arrays), axis),
        "order reversed": lambda dy, *arrays, axis: cut(dy, arrays, axis, 0)[::-1],
    },
    Stack: {
        "always the first axis": lambda dy, *arrays, axis: list(dy.reshape(len(arrays), *arrays[0].shape)),
        "order reversed": lambda dy, *arrays, axis: list(np.moveaxis(dy, axis, 0))[::-1],
        "the first for all": lambda dy, *arrays, axis: [np.moveaxis(dy, axis, 0)[0]] * len(arrays),
    },
}  # fmt: skip


# Matrix products


def flat(a: Array) -> Array:
    return a.reshape(-1, a.shape[-1])


def matmul_first_batch(dz: Array, x: Array, y: Array) -> list[Array]:
    """Where the right side is repeated over a batch, its gradient from the batch's first alone."""
    dx, dy = true(MatMul, dz, x, y)
    if x.ndim > y.ndim >= 2:
        dy = true(MatMul, dz[:1], x[:1], y)[1]
    return [dx, dy]


def linear_rule(
    of_x: float = 1.0, of_weight: Callable[[Array], Array] = lambda g: g, bias: Callable[[Array], Array] | None = None
) -> Rule:
    def rule(dy: Array, x: Array, *rest: Array) -> list[Any]:
        dx, dweight, *dbias = true(Linear, dy, x, *rest)
        return [of_x * dx, of_weight(dweight), *(dbias if bias is None else [bias(dy)] * len(dbias))]

    return rule


def gelu_slope(x: Array, cubic: float = 0.044715, factor: float = 3.0, root: float = sqrt(2 / pi)) -> Array:
    t = np.tanh(root * (x + cubic * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + factor * cubic * x * x)


def linear_gelu_rule(slope_of: Callable[..., Array], on_x: bool = True, on_bias: bool = True) -> Rule:
    """Linear's gradients of dy * slope, the slope forgotten for x or for the bias."""

    def rule(dy: Array, x: Array, *rest: Array) -> list[Array]:
        right = dy * slope_of(x, *rest)
        gradients = true(Linear, right, x, *rest)
        without = true(Linear, dy, x, *rest)
        return [gradients[0] if on_x else without[0], gradients[1], *(gradients if on_bias else without)[2:]]

    return rule


def side_by_side_rule(change: Callable[[list[Array]], list[Array]], start: int, stop_at_n: bool) -> Rule:
    """`change` what comes from `start` on: up to the last weight, or from there on the biases."""

    def rule(dy: Array, *inputs: Array, n: int) -> list[Array]:
        gradients = true(SideBySide, dy, *inputs, n=n)
        place = slice(start, 1 + n) if stop_at_n else slice(1 + n, None)
        gradients[place] = change(gradients[place])
        return gradients

    return rule


MATMUL: dict[Operation, dict[str, Rule]] = {
    MatMul: {
        "gradients swapped": lambda dz, x, y: true(MatMul, dz, x, y)[::-1],
        "float32 on the way": lambda dz, x, y: true(MatMul, in_float32(dz), x, y),
        "the first of a batch alone": matmul_first_batch,
        "square not transposed": lambda dz, x, y: (
            [dz @ y, x @ dz] if x.shape == y.shape == dz.shape else true(MatMul, dz, x, y)
        ),
        "left alone of one array twice": lambda dz, x, y: [
            (gs := true(MatMul, dz, x, y))[0], None if y is x else gs[1]
        ],
    },
    Linear: {
        "bias summed over the first axis alone": linear_rule(bias=lambda dy: dy.sum(axis=0)),
        "bias averaged over rows": linear_rule(bias=lambda dy: flat(dy).sum(axis=0) / max(1, len(flat(dy)))),
        "bias from the last row": linear_rule(bias=lambda dy: flat(dy)[-1:].sum(axis=0)),
        "bias forgotten": lambda dy, x, *rest: [*true(Linear, dy, x, *rest)[:2], *[None] * (len(rest) - 1)],
        "weight's gradient transposed": linear_rule(of_weight=np.transpose),
        "weight's gradient in float32": linear_rule(of_weight=in_float32),
        "x scaled": linear_rule(of_x=1 + 1e-10),
    },
    LinearGELU: {
        "slope of the output": linear_gelu_rule(lambda *inputs: gelu_slope(cpu.gelu(pre(*inputs), False)[0])),
        "slope without the bias": linear_gelu_rule(lambda x, weight, bias=None: gelu_slope(pre(x, weight))),
        "slope forgotten for x": linear_gelu_rule(lambda *inputs: gelu_slope(pre(*inputs)), on_x=False),
        "slope forgotten for the bias": linear_gelu_rule(lambda *inputs: gelu_slope(pre(*inputs)), on_bias=False),
        "0.0447": linear_gelu_rule(lambda *inputs: gelu_slope(pre(*inputs), cubic=0.0447)),
    },
    SideBySide: {
        "weights' gradients reversed": side_by_side_rule(lambda gs: gs[::-1], 1, stop_at_n=True),
        "weights' gradients one place on": side_by_side_rule(lambda gs: gs[1:] + gs[:1], 1, stop_at_n=True),
        "biases' gradients reversed": side_by_side_rule(lambda gs: gs[::-1], 1, stop_at_n=False),
        "x from the first layer alone": lambda dy, x, *rest, n: [
            true(Linear, dy[..., : len(rest[0])], x, rest[0])[0], *true(SideBySide, dy, x, *rest, n=n)[1:]
        ],
        "x divided by the layers": lambda dy, x, *rest, n: [
            (gs := true(SideBySide, dy, x, *rest, n=n))[0] / n, *gs[1:]
        ],
        "every layer's part of dy is the first's": lambda dy, x, *rest, n: true(
            SideBySide, np.concatenate([dy[..., : len(rest[0])]] * n, axis=-1), x, *rest, n=n
        ),
    },
}  # fmt: skip


def pre(x: Array, weight: Array, bias: Array | None = None) -> Array:
    return cpu.linear(x, weight, bias)


# Fused operations


def erf_slope(x: Array) -> Array:
    """The slope of x Phi(x), the exact GELU."""
    cumulative = np.vectorize(lambda a: 0.5 * (1 + erf(a / sqrt(2))), otypes=[float])
    return cumulative(x) + x * np.exp(-x * x / 2) / sqrt(2 * pi)


def layer_norm_rule(
    ddof: int = 0,
    eps_factor: float = 1.0,
    mean_term: float = 1.0,
    norm_term: float = 1.0,
    scale_first: bool = True,
    cast: Callable[[Array], Array] = lambda a: a,
) -> Rule:
    """LayerNorm's rule with one thing or another changed in what x gets."""

    def rule(dy: Array, x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> list[Array]:
        C = x.shape[-1]
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).sum(axis=-1, keepdims=True) / max(1, C - ddof)
        rstd = 1 / np.sqrt(variance + eps_factor * eps)
        norm = cast(centred * rstd)
        g = dy * scale if scale_first else dy
        dx = g - mean_term * mean(g, -1) - norm * norm_term * mean(g * norm, -1)
        return [dx * rstd * (1 if scale_first else scale), *true(LayerNorm, dy, x, scale, shift, eps=eps)[1:]]

    return rule


def of_scale(change: Callable[[Array, Array, Array, Array], Sequence[Array]]) -> Rule:
    """LayerNorm's dx, and what `change(dy, x, dscale, dshift)` makes of the other two."""

    def rule(dy: Array, x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> list[Array]:
        dx, dscale, dshift = true(LayerNorm, dy, x, scale, shift, eps=eps)
        return [dx, *change(dy, x, dscale, dshift)]

    return rule


def attention_rule(
    diagonal: int = 0,
    power: float = 0.5,
    sum_term: bool = True,
    drop: Callable[[Array, Any, float], Array] = cpu.dropout,
    drop_values: bool = True,
    causal: bool = True,
    order: tuple[int, int, int] = (0, 1, 2),
) -> Rule:
    """CausalAttention's rule with one thing or another changed.

    diagonal: of the mask; power: the scale is 1 / D ** power; drop: how the gradient passes dropout; drop_values:
    whether dv sees dropout; causal: whether scores that were masked get no gradient; order: of dq, dk, dv.
    """

    def rule(dy: Array, qkv: Array, n_heads: int, keep: Any = None, rate: float = 0.0) -> list[Array]:
        B, T, C3 = qkv.shape
        q, k, v = qkv.reshape(B, T, 3, n_heads, -1).transpose(2, 0, 3, 1, 4) if qkv.size else np.empty((3, 0, 1, T, 1))
        D = q.shape[-1]
        scores = np.where(np.tri(T, k=diagonal, dtype=bool), q @ k.swapaxes(-1, -2) / sqrt(D), -np.inf)
        weights = softmax(scores, -1)
        dcontext = dy.reshape(B, T, n_heads, D).swapaxes(1, 2)
        dweights = dcontext @ v.swapaxes(-1, -2)
        used = weights if keep is None or not drop_values else cpu.dropout(weights, keep, rate)
        if keep is not None:
            dweights = drop(dweights, keep, rate)
        row = (dweights * weights).sum(-1, keepdims=True) if sum_term else 0
        dscores = (weights if causal else weights + 1e-9) * (dweights - row) / D**power
        parts = [dscores @ k, dscores.swapaxes(-1, -2) @ q, used.swapaxes(-1, -2) @ dcontext]
        return [np.concatenate([parts[i].swapaxes(1, 2).reshape(B, T, C3 // 3) for i in order], axis=-1)]

    return rule


def embedding_averaged(dy: Array, weight: Array, ids: Array) -> list[Array]:
    (dweight,) = true(Embedding, dy, weight, ids=ids)
    times = np.bincount(ids.ravel(), minlength=len(weight))
    return [dweight / np.maximum(1, times)[:, None]]


def cross_entropy_rule(
    axis: int = -1, one: float = 1.0, shift: int = 0, over: Callable[[Array], int] = len, with_dloss: bool = True
) -> Rule:
    def rule(dloss: Array, logits: Array, targets: Array) -> list[Array]:
        d = softmax(logits, axis)
        d[np.arange(len(targets)), (targets + shift) % logits.shape[1]] -= one
        return [d * (dloss if with_dloss else 1) / over(logits)]

    return rule


def head_rule(
    some: Callable[[list[slice]], list[slice]] = lambda parts: parts,
    overwrite: bool = False,
    own_length: bool = False,
    first_rows: bool = False,
) -> Rule:
    """LinearCrossEntropy's rule with some chunks left out, or put together wrongly."""

    def rule(dloss: Array, x: Array, weight: Array, targets: Array) -> list[Array]:
        dx, dweight = np.zeros(x.shape), np.zeros(weight.shape)
        for part in some(list(chunks(len(x), len(weight)))):
            rows = x[: part.stop - part.start] if first_rows else x[part]
            share = dloss * (1 if own_length else len(rows) / len(x))
            dlogits = true(CrossEntropy, share, x[part] @ weight.T, targets=targets[part])[0]
            dx[part] = dlogits @ weight
            dweight = dlogits.T @ rows + (0 if overwrite else dweight)
        return [dx, dweight]

    return rule


FUSED: dict[Operation, dict[str, Rule]] = {
    GELU: {
        "0.0447 for 0.044715": lambda dy, x: (dy * gelu_slope(x, cubic=0.0447),),
        "factor 3 of the cubic forgotten": lambda dy, x: (dy * gelu_slope(x, factor=1.0),),
        "sqrt(2/pi) to four digits": lambda dy, x: (dy * gelu_slope(x, root=0.7979),),
        "the exact GELU's": lambda dy, x: (dy * erf_slope(x),),
        "float32 on the way": lambda dy, x: (dy * in_float32(gelu_slope(x)),),
    },
    LayerNorm: {
        "eps forgotten": layer_norm_rule(eps_factor=0.0),
        "another eps": layer_norm_rule(eps_factor=0.1),
        "unbiased variance": layer_norm_rule(ddof=1),
        "mean term forgotten": layer_norm_rule(mean_term=0.0),
        "variance term forgotten": layer_norm_rule(norm_term=0.0),
        "variance term doubled": layer_norm_rule(norm_term=2.0),
        "scale after the means": layer_norm_rule(scale_first=False),
        "float32 on the way": layer_norm_rule(cast=in_float32),
        "scale from x not normalised": of_scale(lambda dy, x, dscale, dshift: (flat(dy * x).sum(0), dshift)),
        "scale and shift swapped": of_scale(lambda dy, x, dscale, dshift: (dshift, dscale)),
        "shift averaged over rows": of_scale(lambda dy, x, dscale, dshift: (dscale, dshift / max(1, len(flat(dy))))),
        "scale summed over the first axis alone": of_scale(lambda dy, x, dscale, dshift: (dscale, dy.sum(axis=0))),
    },
    CausalAttention: {
        "scale forgotten": attention_rule(power=0.0),
        "1 / D for 1 / sqrt(D)": attention_rule(power=1.0),
        "sees the next token": attention_rule(diagonal=1),
        "does not see itself": attention_rule(diagonal=-1),
        "masked scores get a little": attention_rule(causal=False),
        "softmax's sum term forgotten": attention_rule(sum_term=False),
        "dq and dk swapped": attention_rule(order=(1, 0, 2)),
        "dk and dv swapped": attention_rule(order=(0, 2, 1)),
        "dropout's mask forgotten": attention_rule(drop=lambda g, keep, rate: g / (1 - rate)),
        "dropout's scale forgotten": attention_rule(drop=lambda g, keep, rate: g * keep),
        "dropout's scale squared": attention_rule(drop=lambda g, keep, rate: g * keep / (1 - rate) ** 2),
        "values from weights before dropout": attention_rule(drop_values=False),
    },
    Embedding: {
        "assigned where ids repeat": lambda dy, weight, ids: assigned(dy, weight, ids),
        "averaged where ids repeat": embedding_averaged,
        "one row too far": lambda dy, weight, ids: true(Embedding, dy, weight, ids=(ids + 1) % len(weight)),
        "one of the batch forgotten": lambda dy, weight, ids: (
            true(Embedding, dy[1:], weight, ids=ids[1:]) if ids.ndim > 1 else true(Embedding, dy, weight, ids=ids)
        ),
    },
    Dropout: {
        "mask forgotten": lambda dy, x, keep, rate: (dy / (1 - rate),),
        "mask inverted": lambda dy, x, keep, rate: (dy * ~keep / (1 - rate),),
        "scale forgotten": lambda dy, x, keep, rate: (dy * keep,),
        "scale squared": lambda dy, x, keep, rate: (dy * keep / (1 - rate) ** 2,),
        "divided by the rate": lambda dy, x, keep, rate: (dy * keep / (rate or 1),),
        "in place": lambda dy, x, keep, rate: (np.multiply(dy, keep / (1 - rate), out=dy),),
    },
    CrossEntropy: {
        "not divided by n": cross_entropy_rule(over=lambda logits: 1),
        "divided by the vocabulary": cross_entropy_rule(over=lambda logits: logits.shape[1]),
        "target's 1 forgotten": cross_entropy_rule(one=0.0),
        "1 off the next token": cross_entropy_rule(shift=1),
        "softmax over the rows": cross_entropy_rule(axis=0),
        "dloss taken for 1": cross_entropy_rule(with_dloss=False),
    },
    LinearCrossEntropy: {
        "last chunk forgotten": head_rule(some=lambda parts: parts[:-1] or parts),
        "each chunk over the others": head_rule(overwrite=True),
        "each chunk's own mean": head_rule(own_length=True),
        "every chunk with the first rows": head_rule(first_rows=True),
        "x and weight swapped": lambda dloss, *inputs, targets: true(
            LinearCrossEntropy, dloss, *inputs, targets=targets
        )[::-1],
        "weight transposed": lambda dloss, x, weight, targets: [
            (gs := true(LinearCrossEntropy, dloss, x, weight, targets=targets))[0], gs[1].T
        ],
        "not divided by n": lambda dloss, x, weight, targets: true(
            LinearCrossEntropy, dloss * len(x), x, weight, targets=targets
        ),
    },
}  # fmt: skip


# Memory: sinks, saved arrays, inputs

SINKING = (Linear, LinearGELU, SideBySide, LayerNorm, Embedding, LinearCrossEntropy)


def with_sink(op: Operation, change: Callable[[Sink], Sink]) -> Operation:
    """The operation with a kernel that takes its sinks for others, which the engine does not see."""

    class Broken(op):  # type: ignore[misc, valid-type]
        def sink(self, i: int, like: Array) -> Sink | None:
            sink = super().sink(i, like)
            return None if sink is None else change(sink)

        def backward(self, dy: Array) -> Sequence[Any]:
            results = zip(super().backward(dy), self.inputs, strict=True)
            return [Sink(g.array, add=g.array is at.grad) if isinstance(g, Sink) else g for g, at in results]

    return Broken


def with_backward(op: Operation, rule: Callable[[Function, Array], Sequence[Any]]) -> Operation:
    """The operation with a rule that works on what the right forward has saved."""
    return type("Broken", (op,), {"backward": rule})


def zeroed(sink: Sink) -> Sink:
    sink.array[...] = 0
    return sink


def returns_what_it_saved(op: Function, dy: Array) -> Sequence[Array]:
    op.saved *= dy
    return (op.saved,)


def softmax_in_its_output(op: Function, dy: Array) -> Sequence[Array]:
    y, axis = op.saved
    y *= dy - (dy * y).sum(axis=axis, keepdims=True)
    return (y,)


def layer_norm_in_its_input(op: Function, dy: Array) -> Sequence[Any]:
    gradients = LayerNorm.backward(op, dy)  # type: ignore[arg-type]
    x, _, mean_of_x, rstd = op.saved
    x -= mean_of_x
    x *= rstd
    return gradients


def cross_entropy_in_its_input(op: Function, dloss: Array) -> Sequence[Array]:
    logits, targets, log_sum_exp = op.saved
    logits -= log_sum_exp
    probabilities = np.exp(logits)
    probabilities[np.arange(len(targets)), targets] -= 1
    return (probabilities * dloss / len(targets),)


def memory_rules() -> Iterator[tuple[Operation, str, Operation]]:
    for op in SINKING:
        yield op, "adds to what a sink held before", with_sink(op, lambda sink: sink._replace(add=True))
        yield op, "overwrites an earlier gradient", with_sink(op, lambda sink: sink._replace(add=False))
        yield op, "empties a sink it should add to", with_sink(op, zeroed)
        own = with_sink(op, lambda sink: sink if sink.add else Sink(np.empty_like(sink.array), add=False))
        yield op, "takes memory of its own for a gradient", own
        twice = with_backward(
            op, lambda self, dy, op=op: [g.array if isinstance(g, Sink) else g for g in op.backward(self, dy)]
        )
        yield op, "adds to a gradient, and hands it on to be added", twice
    yield Exp, "returns its output, written over", with_backward(Exp, returns_what_it_saved)
    yield Softmax, "returns its output, written over", with_backward(Softmax, softmax_in_its_output)
    yield LayerNorm, "normalises its input in place", with_backward(LayerNorm, layer_norm_in_its_input)
    yield CrossEntropy, "subtracts from its input in place", with_backward(CrossEntropy, cross_entropy_in_its_input)


def broken_rules() -> Iterator[tuple[Operation, str, Operation]]:
    """The right operation, what is wrong, and the operation that has it wrong."""
    for table in (ELEMENTWISE, REDUCE, SHAPE, MATMUL, FUSED):
        for op, rules in table.items():
            for what, rule in rules.items():
                yield op, what, with_rule(op, rule)
    yield from memory_rules()
