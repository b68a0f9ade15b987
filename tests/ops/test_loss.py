"""Cross-entropy: the definition in value and gradient, large logits, and the head in chunks."""

from __future__ import annotations

import tracemalloc
from functools import partial
from math import exp, log

import numpy as np
import pytest

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.backend.plain.loss import chunks
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from . import oracles
from .oracles import check_float32, check_value_and_gradients, normal

TARGETS = np.array([2, 0, 2, 5])


def leaf(values: Array) -> Tensor:
    return Tensor(values, requires_grad=True)


def loss_by_loops(logits: Array, targets: Array) -> float:
    """Minus the mean log probability, one number at a time."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        total -= log(exp(row[target]) / sum(exp(logit) for logit in row))
    return total / len(targets)


def test_it_is_the_definition_read_aloud() -> None:
    logits = normal(4, 6)
    assert F.cross_entropy(Tensor(logits), TARGETS).item() == pytest.approx(loss_by_loops(logits, TARGETS), rel=1e-14)


def test_it_is_the_formula_in_value_and_gradient() -> None:
    check_value_and_gradients(
        partial(F.cross_entropy, targets=TARGETS), partial(oracles.cross_entropy, targets=TARGETS), 3 * normal(4, 6)
    )


def test_the_gradient_is_the_probabilities_less_1_at_the_target_over_n() -> None:
    logits = leaf(normal(4, 6))
    F.cross_entropy(logits, TARGETS).backward()
    expected = F.softmax(logits.detach()).data - np.eye(6)[TARGETS]
    np.testing.assert_allclose(logits.grad, expected / 4, rtol=1e-13)


@pytest.mark.parametrize("vocabulary", [1, 2, 50257])
def test_equal_logits_lose_the_log_of_the_vocabulary(vocabulary: int) -> None:
    loss = F.cross_entropy(Tensor(np.full((3, vocabulary), 7.0)), np.zeros(3, dtype=int))
    assert loss.item() == pytest.approx(log(vocabulary), abs=1e-12)


@pytest.mark.parametrize(
    ("row", "expected"),
    [([1e4, 0.0, -1e4], 0.0), ([0.0, 1e4, -1e4], 1e4), ([-1e4, -1e4, -1e4], log(3)), ([0.0, -np.inf, 0.0], log(2))],
    ids=["sure and right", "sure and wrong", "far below 0", "one impossible"],
)
def test_large_logits_are_finite_in_value_and_gradient(row: list[float], expected: float) -> None:
    for loss_of in (
        F.cross_entropy,
        lambda x, targets: F.linear_cross_entropy(Tensor(np.ones((1, 1))), x.T, targets),
    ):
        logits = leaf(np.array([row]))
        loss = loss_of(logits, np.array([0]))
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-12)
        assert np.isfinite(logits.grad).all()
        assert logits.grad.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "vocabulary", "n_chunks"), [(4, 6, 1), (9, 2**20, 3)], ids=["one chunk", "the last of three is short"]
)
def test_the_head_in_chunks_is_linear_and_then_cross_entropy(n: int, vocabulary: int, n_chunks: int) -> None:
    assert len(list(chunks(n, vocabulary))) == n_chunks
    targets = np.random.default_rng(0).integers(0, vocabulary, n)
    targets[-1] = vocabulary - 1
    check_value_and_gradients(
        partial(F.linear_cross_entropy, targets=targets),
        lambda x, weight: F.cross_entropy(F.linear(x, weight), targets),
        normal(n, 2),
        normal(vocabulary, 2),
    )


@pytest.mark.parametrize(("n", "vocabulary"), [(1, 7), (10, 1), (300, 50257), (5, 2**23)], ids=str)
def test_chunks_cover_every_row_once(n: int, vocabulary: int) -> None:
    rows = [i for part in chunks(n, vocabulary) for i in range(part.start, part.stop)]
    assert rows == list(range(n))


def test_the_head_in_chunks_never_holds_all_logits() -> None:
    n, vocabulary = 4096, 2**16
    x, weight = leaf(normal(n, 1).astype(np.float32)), leaf(normal(vocabulary, 1).astype(np.float32))
    tracemalloc.start()
    F.linear_cross_entropy(x, weight, np.zeros(n, dtype=int)).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * vocabulary * 4 / 3


def test_in_float32_the_error_stays_below_1e_6() -> None:
    targets = np.random.default_rng(0).integers(0, 2000, 64)
    check_float32(partial(F.cross_entropy, targets=targets), 1e-6, 3 * normal(64, 2000))
    check_float32(partial(F.linear_cross_entropy, targets=targets), 1e-6, normal(64, 48), 0.2 * normal(2000, 48))


def test_a_target_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(IndexError, match="6"):
        F.cross_entropy(Tensor(normal(4, 6)), np.array([0, 1, 2, 6]))


def test_there_is_no_mean_of_no_targets() -> None:
    none, nobody = Tensor(np.empty((0, 2))), np.empty(0, dtype=int)
    with pytest.raises(ValueError, match="no targets"):
        F.cross_entropy(none, nobody)
    with pytest.raises(ValueError, match="no targets"):
        F.linear_cross_entropy(none, Tensor(normal(6, 2)), nobody)
