"""Quartiles, paired ratios and their intervals, the order of rounds, and the noise rule, on known answers."""

from __future__ import annotations

import numpy as np
import pytest

from nanograd_gpt.bench.statistics import Ratio, interleaved, paired_ratio, summary


def test_median_and_quartiles_of_known_numbers() -> None:
    assert summary([5.0, 1.0, 4.0, 2.0, 3.0]) == (3.0, 2.0, 4.0, 5)
    assert summary([7.0]) == (7.0, 7.0, 7.0, 1)


def test_without_samples_there_is_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summary([])


def test_a_ratio_is_taken_within_each_round() -> None:
    """A drift shared by both, here by a factor of 100, does not change the ratio."""
    theirs = np.geomspace(1, 100, 11)
    assert paired_ratio(0.5 * theirs, theirs) == (0.5, 0.5, 0.5)


def test_the_median_is_of_the_ratios_not_the_ratio_of_the_medians() -> None:
    assert paired_ratio([1.0, 2.0, 9.0], [1.0, 4.0, 3.0]).median == 1.0


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0])])
def test_samples_that_are_not_pairs_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="are not pairs"):
        paired_ratio(ours, theirs)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The interval of 15 rounds has the true ratio in 88% (5th to 11th round) to 96% (4th to 12th) of experiments."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        ratio = paired_ratio(0.8 * np.exp(0.05 * rng.standard_normal(15)), np.ones(15))
        assert ratio.low <= ratio.median <= ratio.high
        covered += ratio.low <= 0.8 <= ratio.high
    assert 170 <= covered <= 199


def test_the_same_samples_give_the_same_interval() -> None:
    ours, theirs = np.random.default_rng(6).uniform(1, 2, (2, 15))
    assert paired_ratio(ours, theirs) == paired_ratio(ours, theirs)


@pytest.mark.parametrize(
    ("low", "high", "noisy"),
    [(0.96, 1.04, False), (1.01, 1.04, False), (0.94, 1.01, True), (0.99, 1.06, True), (1.06, 1.07, True)],
)
def test_a_machine_is_too_noisy_if_the_same_twice_may_differ_by_more_than_5_percent(
    low: float, high: float, noisy: bool
) -> None:
    assert Ratio((low + high) / 2, low, high).too_noisy is noisy


def test_turns_are_taken_there_and_back() -> None:
    assert [*interleaved(["A", "B"], 3)] == [["A", "B"], ["B", "A"], ["A", "B"]]
    assert [*interleaved(["A", "B", "C"], 2)] == [["A", "B", "C"], ["C", "B", "A"]]


def test_a_ratio_reads_as_a_median_and_its_interval() -> None:
    assert str(Ratio(0.624, 0.6, 0.651)) == "0.62 (0.60 to 0.65)"
