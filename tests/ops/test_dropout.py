"""Dropout: what is dropped is 0, what is kept is scaled, and the mean stays."""

from __future__ import annotations

import numpy as np
import pytest

from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

from .oracles import normal


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_mean_stays_within_chance(rate: float) -> None:
    n = 200_000
    keep = Generator(3).keep_mask((n,), rate)
    y = F.dropout(Tensor(np.ones(n)), keep, rate).data
    deviation = (rate / (1 - rate) / n) ** 0.5
    assert abs(y.mean() - 1) < 5 * deviation
    assert y.var() == pytest.approx(rate / (1 - rate), rel=0.05)


def test_value_and_gradient_are_scaled_where_kept_and_0_elsewhere() -> None:
    x, dy = normal(4, 5), normal(4, 5, seed=2)
    keep = np.random.default_rng(0).random((4, 5)) < 0.5
    leaf = Tensor(x, requires_grad=True)
    y = F.dropout(leaf, keep, 0.2)
    y.backward(dy)
    np.testing.assert_allclose(y.data, np.where(keep, x / 0.8, 0), rtol=1e-15)
    np.testing.assert_allclose(leaf.grad, np.where(keep, dy / 0.8, 0), rtol=1e-15)


def test_nothing_changes_at_rate_0() -> None:
    x = normal(4, 5)
    np.testing.assert_array_equal(F.dropout(Tensor(x), Generator(0).keep_mask((4, 5), 0.0), 0.0).data, x)
