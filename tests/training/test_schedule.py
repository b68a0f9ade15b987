"""Learning rate schedules."""

from __future__ import annotations

import cmath
from fractions import Fraction
from math import cos, pi

import pytest
from training.small import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.training.schedule import AppendixD, Flat, WarmupCosine


def rates(schedule: WarmupCosine, n: int) -> list[float]:
    return [schedule(step) for step in range(n)]


def of_the_book(peak: float, total: int, warmup: int, initial: float, minimum: float) -> list[float]:
    """Reference for appendix D: warm-up by equal increments, then half a cosine, computed as a rotation of (1, 0)."""
    increments = [Fraction(initial) + k * (Fraction(peak) - Fraction(initial)) / warmup for k in range(warmup)]
    turn = cmath.exp(1j * pi / (total - warmup))
    return [
        *map(float, increments),
        *(minimum + (peak - minimum) * (1 + (turn**k).real) / 2 for k in range(total - warmup)),
    ]


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
    schedule = WarmupCosine(1.0, 4, 4, minimum=0.125)
    assert rates(schedule, 6) == [0.25, 0.5, 0.75, 1.0, 0.125, 0.125]


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warm_up_that_does_not_fit_into_the_training_is_refused(warmup: int) -> None:
    with pytest.raises(InputError, match=f"warmup: {warmup} is not allowed; choose 0 .. 10") as error:
        WarmupCosine(1.0, 10, warmup)
    one_line(error)


# --- the rule of appendix D


@pytest.mark.parametrize("setting", [(1e-3, 135, 27, 1e-5, 1e-5), (0.01, 135, 27, 1e-4, 1e-5), (1.0, 9, 1, 0.0, 0.0)])
def test_appendix_d_has_the_books_rates(setting: tuple[float, int, int, float, float]) -> None:
    peak, total, warmup, initial, minimum = setting
    schedule = AppendixD(peak, total, warmup, initial, minimum)
    assert rates(schedule, total) == pytest.approx(of_the_book(*setting), rel=1e-12)
    assert schedule(0) == initial
    assert schedule(warmup) == max(rates(schedule, total)) == peak


def test_appendix_d_on_the_books_run() -> None:
    schedule = AppendixD(1e-3, total_steps=15 * 9, warmup_steps=int(0.2 * 15 * 9), initial=1e-5, minimum=1e-5)
    few = [schedule(step) for step in (0, 1, 26, 27, 81, 134)]
    assert few == pytest.approx([1e-5, 4.6666667e-5, 9.6333333e-4, 1e-3, 5.05e-4, 1.0209410e-5], rel=1e-7)
    assert schedule.first_clipped == 28


@pytest.mark.parametrize(("total", "warmup"), [(20, 5), (20, 0), (9, 9), (135, 27)])
def test_appendix_d_from_0_to_0_is_hugging_faces_schedule_and_the_other_is_one_update_ahead_in_the_warm_up(
    total: int, warmup: int
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = transformers.get_cosine_schedule_with_warmup(optimizer, warmup, total)
    theirs = []
    for _ in range(total + 3):
        theirs += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    theirs = theirs[:total]  # where ours stays at its minimum, theirs rises again
    assert rates(AppendixD(3e-4, total, warmup), total) == pytest.approx(theirs, rel=1e-12, abs=1e-18)
    ahead = [*theirs[1 : warmup + 1], *theirs[warmup:]] if warmup < total else [*theirs[1:], 3e-4]
    assert rates(WarmupCosine(3e-4, total, warmup), total) == pytest.approx(ahead, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("beyond", [0, 1, 1000])
def test_past_the_last_step_appendix_d_stays_at_its_minimum_too(beyond: int) -> None:
    assert AppendixD(1.0, 10, 2, minimum=0.25)(10 + beyond) == 0.25


@pytest.mark.parametrize("schedule", [WarmupCosine, AppendixD])
def test_without_a_warm_up_the_rules_are_the_same(schedule: type[WarmupCosine]) -> None:
    assert rates(schedule(1.0, 8, minimum=0.1), 9) == rates(WarmupCosine(1.0, 8, minimum=0.1), 9)
