"""Sampling: each filter against its definition, and the frequencies of the tokens that remain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpt.tiny import one_line

from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.generation.sampling import (
    Sampling,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_tokens,
    penalize_repetition,
)
from nanograd_gpt.rng import Generator

INF = np.inf
LOGITS = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5, 0.2])
REFUSED = "repetition_penalty: {} is not allowed; choose a number in [0.01, 100]; 1 is none"
CRITICAL = {7: 24.32, 4: 18.47, 3: 16.27, 2: 13.82}  # of chi-square at 0.001, by degrees of freedom

Floats = npt.NDArray[Any]


def chi_square(counts: Floats, probabilities: Floats) -> float:
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


def softmax(logits: Floats) -> Floats:
    p = np.exp(logits - logits.max())
    return p / p.sum()


# --- the filters by their definitions


def distributions() -> list[list[int]]:
    """Weights of tokens, with many ties; their sum is a power of 2, so that all probabilities are exact."""
    rng, found = np.random.default_rng(0), []
    while len(found) < 300:
        weights = rng.integers(1, rng.choice([3, 6, 40]), rng.integers(1, 12)).tolist()
        rest = 64 - sum(weights) if sum(weights) < 64 else 512 - sum(weights)
        if rest > 0:
            found.append([*weights, rest])
    return found


def by_definition(weights: list[int], kept: Callable[[int], bool]) -> list[bool]:
    return [kept(w) for w in weights]


def left(logits: Floats) -> list[bool]:
    return np.isfinite(logits[0]).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_top_k_leaves_a_token_if_fewer_than_k_are_likelier(dtype: Any) -> None:
    for weights in distributions():
        logits = np.log(np.array([weights], dtype=dtype))
        for k in range(1, len(weights) + 1):
            expected = by_definition(weights, lambda w, k=k, all_=weights: sum(v > w for v in all_) < k)
            assert left(keep_top_k(logits, k)) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_top_p_leaves_a_token_if_the_likelier_ones_do_not_reach_p_without_it(dtype: Any) -> None:
    for weights in distributions():
        total = sum(weights)
        logits = np.log(np.array([weights], dtype=dtype))
        for eighths in range(1, 64):  # between the sums that can occur, so that no rounding decides
            top_p = (eighths * total / 64 + 0.5) / total
            if top_p > 1:
                continue
            expected = by_definition(
                weights, lambda w, p=top_p, all_=weights, n=total: sum(v for v in all_ if v > w) < p * n
            )
            assert left(keep_top_p(logits, top_p)) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_min_p_leaves_a_token_if_it_is_that_share_as_likely_as_the_likeliest(dtype: Any) -> None:
    for weights in distributions():
        logits = np.log(np.array([weights], dtype=dtype))
        for largest_left_out in {0, *weights}:
            min_p = (largest_left_out + 0.5) / max(weights)
            if min_p <= 1:
                expected = by_definition(weights, lambda w, p=min_p, all_=weights: w >= p * max(all_))
                assert left(keep_min_p(logits, min_p)) == expected


def test_the_likeliest_is_always_left() -> None:
    logits = np.array([[0.0, 5.0, 5.0, 1.0]])
    for kept in (keep_top_k(logits, 1), keep_top_p(logits, 1e-9), keep_min_p(logits, 1.0)):
        assert kept.tolist() == [[-INF, 5.0, 5.0, -INF]]


@pytest.mark.parametrize(
    "keep", [lambda x: keep_top_k(x, 2), lambda x: keep_top_p(x, 0.6), lambda x: keep_min_p(x, 0.5)]
)
def test_a_filter_works_row_by_row_and_keeps_dtype_and_input(keep: Callable[[Floats], Floats]) -> None:
    logits = np.random.default_rng(1).standard_normal((6, 9)).astype(np.float32)
    before = logits.copy()
    kept = keep(logits)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(kept, np.concatenate([keep(row[None]) for row in logits]))
    some = np.isfinite(kept)
    assert some.any(axis=1).all()
    assert not some.all(axis=1).any()
    np.testing.assert_array_equal(kept[some], logits[some])


def test_top_k_of_the_whole_vocabulary_leaves_everything() -> None:
    logits = np.array([[5.0, 3.0, -INF, 1.0]])
    np.testing.assert_array_equal(keep_top_k(logits, 4), logits)


def test_the_penalty_divides_logits_above_0_and_multiplies_the_others_once() -> None:
    logits = np.array([[2.0, -2.0, 0.0, 4.0], [2.0, -2.0, 0.0, 4.0]])
    penalized = penalize_repetition(logits, [np.array([0, 1, 0, 2]), np.array([3])], 2.0)
    assert penalized.tolist() == [[1.0, -4.0, 0.0, 4.0], [2.0, -2.0, 0.0, 2.0]]
    assert logits[0, 0] == 2


def test_a_penalty_bears_on_greedy_choice_too() -> None:
    logits, text = np.array([[3.0, 2.0, -1.0]]), [np.array([0])]
    chosen = [int(next_tokens(logits, Sampling(repetition_penalty=p), Generator(0), text)[0]) for p in (1.0, 1.4, 1.6)]
    assert chosen == [0, 0, 1]


# --- what is drawn


def drawn(sampling: Sampling, logits: Floats = LOGITS, n: int = 20_000, text: list[int] | None = None) -> Floats:
    texts = [np.array(text)] * n if text else ()
    return np.bincount(next_tokens(np.tile(logits, (n, 1)), sampling, Generator(11), texts), minlength=len(logits))


@pytest.mark.parametrize(
    ("sampling", "logits", "n_left"),
    [
        (Sampling(1.0), LOGITS, 8),
        (Sampling(1.0, top_k=4), LOGITS, 4),
        (Sampling(2.0, top_k=5), LOGITS / 2, 5),
        (Sampling(1.0, top_p=0.8), LOGITS, 4),  # 0.38, 0.23, 0.14, 0.08: the first three make 0.75
        (Sampling(0.5, top_p=0.96), LOGITS / 0.5, 4),
        (Sampling(1.0, min_p=0.2), LOGITS, 4),  # the likeliest has logit 2, and log(0.2) is -1.61
        (Sampling(1.0, top_k=6, top_p=0.9, min_p=0.25), LOGITS, 3),
    ],
    ids=str,
)
def test_what_is_left_is_drawn_in_proportion(sampling: Sampling, logits: Floats, n_left: int) -> None:
    counts, chosen = drawn(sampling), np.argsort(LOGITS)[-n_left:]
    assert counts[chosen].sum() == 20_000
    assert chi_square(counts[chosen], softmax(logits[chosen])) < CRITICAL[n_left - 1]
    assert chi_square(counts[chosen], softmax(1.2 * logits[chosen])) > CRITICAL[n_left - 1]  # it would show


def test_a_penalized_token_is_drawn_as_its_new_logit_says() -> None:
    counts = drawn(Sampling(1.0, repetition_penalty=2.0), text=[3, 2])
    changed = LOGITS.copy()
    changed[3], changed[2] = 1.0, -2.0
    assert chi_square(counts, softmax(changed)) < CRITICAL[7]
    assert chi_square(counts, softmax(LOGITS)) > CRITICAL[7]


def test_each_of_the_top_k_and_of_their_ties_is_drawn_and_no_other() -> None:
    counts = drawn(Sampling(1.0, 3), np.array([0.0, 2.0, 1.0, 1.0, 3.0, 0.5]), 2000)
    assert np.flatnonzero(counts).tolist() == [1, 2, 3, 4]


def test_top_p_comes_after_temperature_and_after_top_k() -> None:
    weights = np.log(np.array([8.0, 4.0, 2.0, 2.0]))
    assert np.flatnonzero(drawn(Sampling(1.0, top_p=0.7), weights, 2000)).tolist() == [0, 1]
    assert np.flatnonzero(drawn(Sampling(4.0, top_p=0.7), weights, 2000)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(drawn(Sampling(1.0, top_k=2, top_p=0.6), weights, 2000)).tolist() == [0]


def test_rows_with_different_logits_are_drawn_from_their_own() -> None:
    logits = np.where(np.eye(8, dtype=bool), 0.0, -INF)
    assert next_tokens(logits, Sampling(1.0), Generator(0)).tolist() == list(range(8))


def test_rows_with_equal_logits_are_drawn_independently() -> None:
    first, second = next_tokens(np.zeros((20_000, 2)), Sampling(1.0), Generator(2)).reshape(2, -1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.04  # 4 standard errors


@pytest.mark.parametrize("sampling", [Sampling(2.0), Sampling(2.0, top_p=0.99), Sampling(2.0, min_p=0.01)], ids=str)
def test_a_token_of_logit_minus_infinity_is_never_drawn(sampling: Sampling) -> None:
    counts = drawn(sampling, np.array([-INF, 0.0, -INF, 0.0, -INF]), 5000)
    assert np.flatnonzero(counts).tolist() == [1, 3]


def test_large_logits_do_not_overflow() -> None:
    logits = np.tile([[1e4, 1e4, -1e4]], (500, 1)).astype(np.float32)
    for sampling in (Sampling(1.0), Sampling(1.0, top_p=0.9), Sampling(1.0, min_p=0.1)):
        assert set(next_tokens(logits, sampling, Generator(0)).tolist()) == {0, 1}


@pytest.mark.parametrize("temperature", [1e-38, 1e-40, 1e-50, 5e-324])
def test_the_lowest_temperatures_are_greedy(temperature: float) -> None:
    logits = np.array([[1.0, 5.0, 3.0], [-2.0, -7.0, -1.0]], dtype=np.float32)
    assert next_tokens(logits, Sampling(temperature), Generator(0)).tolist() == [1, 2]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, INF])
def test_logits_that_are_no_numbers_are_refused(temperature: float, bad: float) -> None:
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(RunError, match="logits are not finite; its training has diverged"),
    ):
        next_tokens(np.array([[1.0, 2.0], [1.0, bad]]), Sampling(temperature), Generator(0))


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature: -0.1 is not allowed; choose a finite number >= 0"),
        ({"temperature": np.nan}, "temperature: nan is not allowed; choose a finite number >= 0"),
        ({"temperature": INF}, "temperature: inf is not allowed; choose a finite number >= 0"),
        ({"top_p": 0.0}, "top_p: 0.0 is not allowed; choose a number in (0, 1]"),
        ({"top_p": 1.01}, "top_p: 1.01 is not allowed; choose a number in (0, 1]"),
        ({"top_p": np.nan}, "top_p: nan is not allowed; choose a number in (0, 1]"),
        ({"min_p": -0.1}, "min_p: -0.1 is not allowed; choose a number in [0, 1]"),
        ({"min_p": 1.5}, "min_p: 1.5 is not allowed; choose a number in [0, 1]"),
        (
            {"repetition_penalty": 0.0},
            REFUSED.format("0.0"),
        ),
        (
            {"repetition_penalty": INF},
            REFUSED.format("inf"),
        ),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Sampling(**settings)
    assert one_line(error) == message


@pytest.mark.parametrize("top_k", [0, -1, 9])
def test_a_top_k_that_is_no_number_of_tokens_is_refused(top_k: int) -> None:
    with pytest.raises(InputError) as error:
        Sampling(top_k=top_k).check(8)
    assert one_line(error) == f"top_k: {top_k} is not allowed; choose 1 .. 8 (the vocabulary)"
