"""Causal attention: the book's formula with its mask in value and gradient, and that no token sees a later one."""

from __future__ import annotations

from functools import partial
from math import exp, sqrt

import numpy as np
import pytest

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from . import oracles
from .oracles import check_float32, check_value_and_gradients, normal

SHAPES = [(2, 7, 12, 3), (1, 5, 8, 1), (3, 1, 4, 2), (1, 33, 6, 6)]  # B, T, C, H


def attention(qkv: Array, n_heads: int) -> Array:
    return F.causal_attention(Tensor(qkv), n_heads).data


def attention_by_loops(qkv: Array, n_heads: int) -> Array:
    """One batch, head, token and number at a time."""
    B, T, C3 = qkv.shape
    C, D = C3 // 3, C3 // 3 // n_heads
    out = np.zeros((B, T, C))
    for b, h, t in np.ndindex(B, n_heads, T):
        first = h * D
        scores = [
            sum(qkv[b, t, first + d] * qkv[b, s, C + first + d] for d in range(D)) / sqrt(D) for s in range(t + 1)
        ]
        total = sum(exp(score) for score in scores)
        for s, score in enumerate(scores):
            out[b, t, first : first + D] += exp(score) / total * qkv[b, s, 2 * C + first : 2 * C + first + D]
    return out


@pytest.mark.parametrize(("B", "T", "C", "n_heads"), SHAPES)
def test_it_is_the_books_formula_in_value_and_gradient(B: int, T: int, C: int, n_heads: int) -> None:
    check_value_and_gradients(
        partial(F.causal_attention, n_heads=n_heads),
        partial(oracles.causal_attention, n_heads=n_heads),
        normal(B, T, 3 * C),
    )


@pytest.mark.parametrize(("B", "T", "C", "n_heads"), SHAPES[:3])
def test_it_is_the_definition_read_aloud(B: int, T: int, C: int, n_heads: int) -> None:
    qkv = normal(B, T, 3 * C)
    np.testing.assert_allclose(attention(qkv, n_heads), attention_by_loops(qkv, n_heads), rtol=1e-12)


def test_dropout_acts_on_the_weights_after_the_softmax() -> None:
    keep = np.random.default_rng(0).random((2, 3, 7, 7)) < 0.6
    dropped = {"n_heads": 3, "keep": keep, "rate": 0.4}
    check_value_and_gradients(
        partial(F.causal_attention, **dropped), partial(oracles.causal_attention, **dropped), normal(2, 7, 36)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("changed", [1, 4, 15])
def test_changing_a_later_token_changes_no_bit_of_an_earlier_result(changed: int, dtype: type) -> None:
    qkv = normal(2, 16, 3 * 24).astype(dtype)
    later = qkv.copy()
    later[:, changed:] = 100 * normal(2, 16 - changed, 3 * 24, seed=5)
    before, after = attention(qkv, 4), attention(later, 4)
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    assert np.all(before[:, changed:] != after[:, changed:])


def test_a_token_gets_no_gradient_from_earlier_results() -> None:
    qkv = Tensor(normal(2, 9, 36), requires_grad=True)
    weights = normal(2, 9, 12)
    weights[:, 4:] = 0
    F.causal_attention(qkv, 3).backward(weights)
    assert qkv.grad is not None
    np.testing.assert_array_equal(qkv.grad[:, 4:], 0)
    assert np.all(qkv.grad[:, 1:4] != 0)


def test_without_queries_it_is_the_mean_of_the_values_so_far() -> None:
    qkv = normal(1, 6, 12)
    qkv[..., :4] = 0
    so_far = np.cumsum(qkv[..., 8:], axis=1) / np.arange(1, 7)[:, None]
    np.testing.assert_allclose(attention(qkv, 2), so_far, rtol=1e-13)


def test_the_first_token_sees_itself_alone() -> None:
    qkv = normal(2, 5, 12)
    np.testing.assert_allclose(attention(qkv, 2)[:, 0], qkv[:, 0, 8:], rtol=1e-15)


def test_large_scores_are_finite_in_value_and_gradient() -> None:
    qkv = Tensor(1e4 * normal(1, 6, 12), requires_grad=True)
    y = F.causal_attention(qkv, 2)
    y.backward(normal(1, 6, 4))
    assert np.isfinite(y.data).all()
    assert np.isfinite(qkv.grad).all()


def test_in_float32_the_error_stays_below_1e_6() -> None:
    check_float32(partial(F.causal_attention, n_heads=4), 1e-6, normal(2, 64, 3 * 64))
