"""Statistics of noisy timings: medians, quartiles, paired ratios, and whether a machine is quiet enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ..rng import Generator

T = TypeVar("T")

RESAMPLES = 2000
LEVEL = 0.95  # confidence level of the bootstrap intervals
NOISE = 0.05  # tolerated deviation from 1 of a contender's ratio to itself


class Summary(NamedTuple):
    """Median and quartiles of n samples, in the samples' unit."""

    median: float
    lower: float
    upper: float
    n: int


class Ratio(NamedTuple):
    """The median of paired ratios, with the ends of its bootstrap interval."""

    median: float
    low: float
    high: float

    @property
    def too_noisy(self) -> bool:
        """True if the interval extends more than 5% from 1; meaningful for the same contender measured twice."""
        return self.low < 1 - NOISE or self.high > 1 + NOISE

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def summary(samples: Sequence[float]) -> Summary:
    """Compute median and quartiles.  Raises ValueError without samples."""
    if not len(samples):
        raise ValueError("summary: there are no samples")
    lower, median, upper = np.quantile(samples, [0.25, 0.5, 0.75])
    return Summary(float(median), float(lower), float(upper), len(samples))


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Compute the median of first[i] / second[i], both measured in round i, and its 95% interval.

    The interval is a bootstrap over rounds (Efron 1979) with a fixed seed, so the same samples give the same interval
    everywhere.  With 7 to 15 rounds it covers the true median in about 9 cases of 10, since a median of few samples
    takes few values.  Raises ValueError if the lengths differ or are 0.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"paired_ratio: {len(first)} and {len(second)} samples are not pairs")
    ratios = np.asarray(first, dtype=float) / np.asarray(second, dtype=float)
    n = len(ratios)
    chosen = (Generator(1979).uniform((RESAMPLES, n)) * n).astype(np.intp)
    medians = np.median(ratios[np.minimum(chosen, n - 1)], axis=1)  # float32 may round up to n
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def interleaved(contenders: Sequence[T], rounds: int) -> Iterator[list[T]]:
    """Yield the order of each round, alternating A B, B A, A B ..., so that a drift biases no contender."""
    for i in range(rounds):
        yield list(contenders) if i % 2 == 0 else list(reversed(contenders))
