"""The losses of a run at its evaluations, and where in the training each was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any, NamedTuple

from ..training.metrics import Event, Metrics

MOST_SPEEDS = 60


class Curves(NamedTuple):
    """One value for each evaluation, in the order of plot_losses' arguments."""

    epochs: list[float]  # passes over the training text, fractions included
    tokens: list[float]
    train_losses: list[float]
    val_losses: list[float]


def evaluation_curves(metrics: Metrics) -> Curves:
    """The evaluations of a run as columns.  A value that was not measured is nan."""
    tokens, train, val = (
        [number(e[name]) for e in metrics.evaluations] for name in ("tokens", "train_loss", "val_loss")
    )
    per_epoch = tokens_per_epoch(metrics)
    return Curves([n / per_epoch for n in tokens], tokens, train, val)


def speeds(steps: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Tokens seen and tokens per second, over spans of at least two updates, evaluations and saving included.

    A span in which a resumed run's clock began again is left out, as are steps without their seconds.
    """
    timed = [step for step in steps if step.get("seconds") is not None]
    ends = timed[:: max(2, len(timed) // MOST_SPEEDS)]
    return [
        (later["tokens"], (later["tokens"] - earlier["tokens"]) / (later["seconds"] - earlier["seconds"]))
        for earlier, later in pairwise(ends)
        if later["seconds"] > earlier["seconds"]
    ]


def total_seconds(steps: Sequence[Mapping[str, Any]]) -> float:
    """The total time of all sessions; a step's seconds count from the start of its session."""
    total = before = 0.0
    for step in steps:
        total += step["seconds"] - (before if step["seconds"] >= before else 0)
        before = step["seconds"]
    return total


def best_evaluation(evaluations: Sequence[Event]) -> Event | None:
    """The evaluation with the lowest validation loss, if any is finite."""
    finite = [e for e in evaluations if isfinite(number(e["val_loss"]))]
    return min(finite, key=lambda e: number(e["val_loss"]), default=None)


def number(value: Any) -> float:
    """A logged value as a float; None, which stands for a missing one, becomes nan."""
    return float("nan") if value is None else float(value)


def tokens_per_epoch(metrics: Metrics) -> float:
    """The tokens of one epoch, the same for each: training drops an incomplete last batch.

    Where the log does not say, they are those seen by the end of the first epoch.
    """
    for start in reversed(metrics.starts):
        if "tokens_per_epoch" in start:
            return float(start["tokens_per_epoch"])
    events = metrics.steps or metrics.evaluations
    first = [event["tokens"] for event in events if event["epoch"] == events[0]["epoch"]]
    return float(max(first, default=0) or 1)  # 1: nothing but weights as they were loaded, after 0 tokens
