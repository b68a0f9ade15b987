"""GELU and softmax: the textbook's formulas in value and gradient, float32 against float64, extreme values."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, log, sqrt

import numpy as np
import pytest

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from . import oracles
from .oracles import EPS32, check_float32, check_value_and_gradients, normal


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


def test_gelu_is_the_tanh_formula_in_value_and_gradient() -> None:
    check_value_and_gradients(F.gelu, oracles.gelu, 3 * normal(5, 40))


def test_gelu_has_the_values_of_the_exact_one_to_5e_4() -> None:
    x = np.linspace(-6, 6, 201)
    exact = np.array([0.5 * a * (1 + erf(a / sqrt(2))) for a in x])
    assert 0 < np.max(np.abs(F.gelu(Tensor(x)).data - exact)) < 5e-4


def test_in_float32_gelu_is_within_2_eps_of_x() -> None:
    sizes = np.concatenate([np.linspace(0, 50, 100_001), np.geomspace(1e-30, 1e4, 50_000)])
    x = np.concatenate([-sizes[::-1], sizes]).astype(np.float32)
    wide = x.astype(np.float64)
    half = 0.5 + 0.5 * np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    result = F.gelu(Tensor(x)).data
    assert result.dtype == np.float32
    assert np.all(np.abs(result - wide * half) <= 2 * EPS32 * np.abs(wide))


def test_gelu_far_from_0_is_0_or_x_with_slope_0_or_1() -> None:
    x = leaf(-1e4, -50.0, 0.0, 50.0, 1e4)
    y = F.gelu(x)
    y.sum().backward()
    np.testing.assert_array_equal(y.data, [0, 0, 0, 50, 1e4])
    np.testing.assert_array_equal(x.grad, [0, 0, 0.5, 1, 1])


SOFTMAXES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "softmax": (F.softmax, oracles.softmax),
    "log_softmax": (F.log_softmax, lambda x, axis: oracles.softmax(x, axis).log()),
}


@pytest.mark.parametrize(("formula", "oracle"), SOFTMAXES.values(), ids=SOFTMAXES.keys())
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_a_softmax_is_the_formula_in_value_and_gradient(
    formula: Callable[..., Tensor], oracle: Callable[..., Tensor], axis: int
) -> None:
    check_value_and_gradients(lambda x: formula(x, axis), lambda x: oracle(x, axis), normal(3, 4, 5))


@pytest.mark.parametrize("formula", [F.softmax, F.log_softmax], ids=["softmax", "log_softmax"])
def test_in_float32_the_error_stays_below_1e_6(formula: Callable[..., Tensor]) -> None:
    check_float32(formula, 1e-6, 5 * normal(40, 1000))


def test_a_softmax_sums_to_1_and_does_not_see_a_shift() -> None:
    x = normal(6, 50)
    y = F.softmax(Tensor(x)).data
    assert np.all(y > 0)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(F.softmax(Tensor(x + 500)).data, y, rtol=1e-12)


def test_a_softmax_of_1e4_is_finite_in_value_and_gradient() -> None:
    x = leaf(1e4, 1e4, -1e4)
    y = F.softmax(x)
    y.backward(np.array([1.0, 0.0, 5.0]))
    np.testing.assert_array_equal(y.data, [0.5, 0.5, 0])
    np.testing.assert_array_equal(x.grad, [0.25, -0.25, 0])


def test_a_log_softmax_of_1e4_keeps_what_the_softmax_rounds_to_0() -> None:
    x = leaf(1e4, 1e4, -1e4)
    y = F.log_softmax(x)
    y.backward(np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(y.data, [-log(2), -log(2), -2e4 - log(2)], rtol=1e-12)
    np.testing.assert_allclose(x.grad, [-0.5, -0.5, 1], rtol=1e-12)


def test_a_masked_score_has_no_weight_and_no_gradient() -> None:
    x = leaf(0.0, -np.inf, 1.0)
    y = F.softmax(x)
    y.backward(np.array([1.0, 7.0, 2.0]))
    assert y.data[1] == 0
    assert x.grad is not None
    assert x.grad[1] == 0
    assert np.isfinite(x.grad).all()
