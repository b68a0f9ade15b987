"""Checkpoints by the clock: as often as asked for, and never for more than a small share of the time."""

from __future__ import annotations

import pytest

from nanograd_gpt.training import checkpoint_clock
from nanograd_gpt.training.checkpoint_clock import CheckpointClock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list, to be set."""
    time = [1000.0]
    monkeypatch.setattr(checkpoint_clock, "perf_counter", lambda: time[0])
    return time


def test_a_checkpoint_is_due_after_the_minutes_asked_for(now: list[float]) -> None:
    clock = CheckpointClock(2)
    now[0] += 119
    assert not clock.is_due()
    now[0] += 1
    assert clock.is_due()
    with clock.saving():
        now[0] += 1
    assert not clock.is_due()
    now[0] += 120
    assert clock.is_due()


def test_where_saving_takes_long_checkpoints_are_further_apart(now: list[float]) -> None:
    clock = CheckpointClock(1)
    with clock.saving():
        now[0] += 6
    now[0] += 399
    assert not clock.is_due()
    now[0] += 1
    assert clock.is_due()


def test_without_minutes_none_is_due(now: list[float]) -> None:
    clock = CheckpointClock(0)
    now[0] += 1e9
    assert not clock.is_due()


def test_the_cost_of_a_checkpoint_before_the_first_update_counts(now: list[float]) -> None:
    clock = CheckpointClock(1, cost=6.0)
    now[0] += 399
    assert not clock.is_due()
    now[0] += 1
    assert clock.is_due()
