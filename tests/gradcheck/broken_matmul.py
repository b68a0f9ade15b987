"""Broken rules of the matrix products."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import numpy as np

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.ops.matmul import Linear, LinearGELU, MatMul, PackedLinear

from .broken_rules import Operation, Rule, in_float32, true


def flat(a: Array) -> Array:
    return a.reshape(-1, a.shape[-1])


def matmul_first_batch(dz: Array, x: Array, y: Array) -> list[Array]:
    """The gradient of a right side that is repeated over a batch, from the batch's first alone."""
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


def gelu_derivative(x: Array, cubic: float = 0.044715, factor: float = 3.0, root: float = sqrt(2 / pi)) -> Array:
    t = np.tanh(root * (x + cubic * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + factor * cubic * x * x)


def linear_gelu_rule(derivative_of: Callable[..., Array], on_x: bool = True, on_bias: bool = True) -> Rule:
    """Linear's gradients of dy * derivative, the derivative forgotten for x or for the bias."""

    def rule(dy: Array, x: Array, *rest: Array) -> list[Array]:
        right = dy * derivative_of(x, *rest)
        gradients = true(Linear, right, x, *rest)
        without = true(Linear, dy, x, *rest)
        return [gradients[0] if on_x else without[0], gradients[1], *(gradients if on_bias else without)[2:]]

    return rule


def packed_linear_rule(change: Callable[[list[Array]], list[Array]], start: int, stop_at_n: bool) -> Rule:
    """Apply `change` to the gradients from `start` on: of the weights up to the last, or of the biases after it."""

    def rule(dy: Array, *inputs: Array, n: int) -> list[Array]:
        gradients = true(PackedLinear, dy, *inputs, n=n)
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
        "derivative of the output": linear_gelu_rule(lambda *inputs: gelu_derivative(cpu.gelu(pre(*inputs), False)[0])),
        "derivative without the bias": linear_gelu_rule(lambda x, weight, bias=None: gelu_derivative(pre(x, weight))),
        "not for x": linear_gelu_rule(lambda *inputs: gelu_derivative(pre(*inputs)), on_x=False),
        "not for the bias": linear_gelu_rule(lambda *inputs: gelu_derivative(pre(*inputs)), on_bias=False),
        "0.0447": linear_gelu_rule(lambda *inputs: gelu_derivative(pre(*inputs), cubic=0.0447)),
    },
    PackedLinear: {
        "weights' gradients reversed": packed_linear_rule(lambda gs: gs[::-1], 1, stop_at_n=True),
        "weights' gradients one place on": packed_linear_rule(lambda gs: gs[1:] + gs[:1], 1, stop_at_n=True),
        "biases' gradients reversed": packed_linear_rule(lambda gs: gs[::-1], 1, stop_at_n=False),
        "x from the first layer alone": lambda dy, x, *rest, n: [
            true(Linear, dy[..., : len(rest[0])], x, rest[0])[0], *true(PackedLinear, dy, x, *rest, n=n)[1:]
        ],
        "x divided by the layers": lambda dy, x, *rest, n: [
            (gs := true(PackedLinear, dy, x, *rest, n=n))[0] / n, *gs[1:]
        ],
        "every layer's part of dy is the first's": lambda dy, x, *rest, n: true(
            PackedLinear, np.concatenate([dy[..., : len(rest[0])]] * n, axis=-1), x, *rest, n=n
        ),
    },
}  # fmt: skip


def pre(x: Array, weight: Array, bias: Array | None = None) -> Array:
    return cpu.linear(x, weight, bias)
