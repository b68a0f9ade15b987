"""The learning rate at each step."""

from __future__ import annotations

from math import cos, pi

import pytest
from training.small import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.training.schedule import Flat, WarmupCosine


def rates(schedule: WarmupCosine, n: int) -> list[float]:
    return [schedule(step) for step in range(n)]


@pytest.mark.parametrize("step", [0, 1, 10**6])
def test_flat_is_the_same_at_every_step(step: int) -> None:
    assert Flat(3e-4)(step) == 3e-4


@pytest.mark.parametrize("initial", [0.0, 0.2])
@pytest.mark.parametrize("warmup", [1, 3, 10])
def test_the_warm_up_is_a_line_from_initial_that_ends_at_the_peak(warmup: int, initial: float) -> None:
    schedule = WarmupCosine(1.0, 20, warmup, initial=initial, minimum=0.1)
    expected = [initial + (1 - initial) * k / warmup for k in range(1, warmup + 1)]
    assert rates(schedule, warmup) == pytest.approx(expected, rel=1e-15)
    assert schedule(warmup - 1) == pytest.approx(1.0, rel=1e-15)
    assert schedule(warmup) == 1.0


def test_no_update_is_lost_at_a_rate_of_zero() -> None:
    assert WarmupCosine(1.0, 100, 50)(0) > 0


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("minimum", [0.0, 0.1])
def test_after_the_warm_up_comes_half_a_cosine_wave_down_to_the_minimum(warmup: int, minimum: float) -> None:
    schedule = WarmupCosine(1.0, warmup + 8, warmup, minimum=minimum)
    decay = rates(schedule, warmup + 9)[warmup:]
    expected = [minimum + (1 - minimum) * (1 + cos(pi * k / 8)) / 2 for k in range(9)]
    assert decay == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert decay == sorted(decay, reverse=True)
    assert decay[4] == pytest.approx((1 + minimum) / 2, rel=1e-12)


@pytest.mark.parametrize("beyond", [0, 1, 1000])
def test_past_the_last_step_the_rate_stays_at_its_minimum(beyond: int) -> None:
    assert WarmupCosine(1.0, 10, 2, minimum=0.25)(10 + beyond) == 0.25


def test_a_training_may_be_all_warm_up() -> None:
    schedule = WarmupCosine(1.0, 4, 4)
    assert rates(schedule, 4) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warm_up_that_does_not_fit_into_the_training_is_refused(warmup: int) -> None:
    with pytest.raises(InputError, match=f"{warmup} steps do not fit into a training of 10") as error:
        WarmupCosine(1.0, 10, warmup)
    one_line(error)
