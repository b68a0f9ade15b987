"""Layer normalisation: the book's formula in value and gradient, float32 against float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from . import oracles
from .oracles import check_float32, check_value_and_gradients, normal


@pytest.mark.parametrize("shape", [(2, 5, 8), (7, 3), (6,)], ids=str)
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_it_is_the_formula_in_value_and_gradient(shape: tuple[int, ...], eps: float) -> None:
    x, scale, shift = normal(*shape), normal(shape[-1], seed=2), normal(shape[-1], seed=3)
    check_value_and_gradients(partial(F.layer_norm, eps=eps), partial(oracles.layer_norm, eps=eps), x, scale, shift)


def test_each_row_has_mean_0_and_biased_variance_1() -> None:
    C = 64
    y = F.layer_norm(Tensor(3 * normal(5, C) + 7), Tensor(np.ones(C)), Tensor(np.zeros(C)), eps=0.0).data
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-14)
    np.testing.assert_allclose((y * y).mean(-1), 1, rtol=1e-14)


def test_scale_and_shift_act_on_their_channel() -> None:
    x = Tensor(np.array([[1.0, -1.0], [-2.0, 2.0]]))
    y = F.layer_norm(x, Tensor([10.0, 20.0]), Tensor([0.5, 0.25]), eps=0.0).data
    np.testing.assert_allclose(y, [[10.5, -19.75], [-9.5, 20.25]], rtol=1e-15)


def test_a_constant_row_is_finite_in_value_and_gradient() -> None:
    x = Tensor(np.full((2, 4), 3.0), requires_grad=True)
    y = F.layer_norm(x, Tensor(np.ones(4)), Tensor(np.full(4, 0.5)))
    y.backward(normal(2, 4))
    np.testing.assert_array_equal(y.data, 0.5)
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e4], ids=str)
def test_in_float32_the_error_stays_below_1e_6(size: float) -> None:
    check_float32(F.layer_norm, 1e-6, size * normal(8, 32, 768), 1 + 0.1 * normal(768), normal(768))
