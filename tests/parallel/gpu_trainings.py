"""Short trainings of ranks with a GPU each, and the same by one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parallel.trainings import Case, new_run, trained

LENGTH = {"max_steps": 8, "eval_freq": 3, "eval_iter": 5}
STOP = 5  # updates: within an epoch, and not at an evaluation
CASES: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"accumulate": 2, "tied_head": True}, True),
    ({"random": "torch", "accumulate": 2}, False),
    ({"random": "torch"}, True),
]


def on_gpus(settings: dict[str, Any], sharded: bool, dtype: str = "float64") -> Case:
    """A training on GPUs."""
    return Case(settings={**LENGTH, **settings}, dtype=dtype, sharded=sharded, device="cuda")


def alone(settings: dict[str, Any], dtype: str = "float64", device: Any = "cpu") -> Any:
    """The same training in this process."""
    case = Case(settings={**LENGTH, **settings}, dtype=dtype, sharded=False, device=device)
    return trained(new_run(case), case)


def joined(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The course of a training that was stopped and went on."""
    return {"tokens": after["tokens"]} | {
        name: before[name] + after[name] for name in ("losses", "norms", "evaluations")
    }
