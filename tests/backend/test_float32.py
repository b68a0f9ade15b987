"""The CPU's float32 kernels against the plain formulas in float64, within the error bounds of a good library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import Array, GradOut
from nanograd_gpt.backend.plain import activation, attention, loss, norm

RNG = np.random.default_rng(4)
EPS = float(np.finfo(np.float32).eps)
N, C = 512, 768


def random(*shape: int, scale: float = 1.0) -> Array:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def double(*arrays: Array) -> list[Array]:
    return [a.astype(np.float64) for a in arrays]


def far(ours: Any, exact: Any) -> float:
    """The norm of the error, relative to the norm of the exact result."""
    return float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))


def test_gelu_is_within_2_eps_of_x() -> None:
    x = random(200_000, scale=3)
    y, derivative = cpu.gelu(x, True)
    exact, exact_derivative = activation.gelu(x.astype(np.float64), True)
    assert derivative is not None
    assert exact_derivative is not None
    assert (np.abs(y - exact) <= 2 * EPS * np.abs(x)).all()
    assert far(derivative, exact_derivative) < 1e-6


@pytest.mark.parametrize("n_out", [768, 3072])
def test_a_linear_layer_is_within_4_eps_of_the_product_of_absolute_values(n_out: int) -> None:
    x, weight, bias, dy = random(N, C), random(n_out, C), random(n_out), random(N, n_out)
    x_, weight_, bias_, dy_ = double(x, weight, bias, dy)
    limit = 4 * EPS * (np.abs(x_) @ np.abs(weight_.T) + np.abs(bias_))
    assert (np.abs(cpu.linear(x, weight, bias) - (x_ @ weight_.T + bias_)) <= limit).all()
    dweight, dbias = GradOut(np.empty_like(weight), False), GradOut(np.empty_like(bias), False)
    dx = cpu.linear_backward(dy, x, weight, dweight, dbias, True)
    assert (np.abs(dx - dy_ @ weight_) <= 4 * EPS * (np.abs(dy_) @ np.abs(weight_))).all()
    assert (np.abs(dweight.array - dy_.T @ x_) <= 4 * EPS * (np.abs(dy_.T) @ np.abs(x_))).all()
    assert (np.abs(dbias.array - dy_.sum(axis=0)) <= 4 * EPS * np.abs(dy_).sum(axis=0)).all()


def test_layer_norm_forward_and_backward_are_within_1e_6() -> None:
    x, scale, shift, dy = random(N, C) + 2, random(C), random(C), random(N, C)
    y, mean, rstd = cpu.layer_norm(x, scale, shift, 1e-5)
    exact, exact_mean, exact_rstd = norm.layer_norm(*double(x, scale, shift), 1e-5)
    assert far(y, exact) < 1e-6
    sinks = [GradOut(np.empty(C, dtype=t), False) for t in (np.float32, np.float32, np.float64, np.float64)]
    dx = cpu.layer_norm_backward(dy, x, scale, mean, rstd, *sinks[:2], None)
    exact_dx = norm.layer_norm_backward(*double(dy, x, scale), exact_mean, exact_rstd, *sinks[2:], None)
    assert far(dx, exact_dx) < 1e-6
    assert far(sinks[0].array, sinks[2].array) < 1e-6
    assert far(sinks[1].array, sinks[3].array) < 1e-6


def test_attention_forward_and_backward_are_within_1e_6() -> None:
    qkv, dy, keep = random(2, 256, 3 * C), random(2, 256, C), RNG.random((2, 12, 256, 256)) < 0.9
    context, lse = cpu.causal_attention(qkv, 12, keep, 0.1)
    exact, exact_lse = attention.causal_attention(qkv.astype(np.float64), 12, keep, 0.1)
    assert far(context, exact) < 1e-6
    assert far(lse, exact_lse) < 1e-6
    dqkv = cpu.causal_attention_backward(dy, qkv, context, lse, 12, keep, 0.1)
    exact_dqkv = attention.causal_attention_backward(*double(dy, qkv, context), exact_lse, 12, keep, 0.1)
    assert far(dqkv, exact_dqkv) < 1e-6


def test_the_heads_cross_entropy_is_within_1e_6() -> None:
    x, weight, targets = random(100, C), random(5000, C, scale=0.05), RNG.integers(0, 5000, 100)
    value, lse, kept = cpu.linear_cross_entropy(x, weight, targets, True)
    exact, exact_lse, _ = loss.linear_cross_entropy(*double(x, weight), targets, True)
    assert abs(float(value) - float(exact)) < 1e-6 * float(exact)
    dweight, exact_dweight = (GradOut(np.empty(weight.shape, dtype=t), False) for t in (np.float32, np.float64))
    one = np.float64(1)
    dx = cpu.linear_cross_entropy_backward(np.asarray(one, np.float32), x, weight, targets, lse, kept, dweight, True)
    exact_dx = loss.linear_cross_entropy_backward(
        np.asarray(one), *double(x, weight), targets, exact_lse, None, exact_dweight, True
    )
    assert far(dx, exact_dx) < 1e-6
    assert far(dweight.array, exact_dweight.array) < 1e-6
