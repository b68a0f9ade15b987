"""Ranks train as one process does: the same losses, norms and evaluations, and the same bits on each of them."""

from __future__ import annotations

from typing import Any

import pytest
from parallel import run
from parallel.mpi import needs_mpi, run_program
from parallel.trainings import TOLERANCE, Case, alone, cases, difference, new_run, trained

CI = [case for i, case in enumerate(cases()) if i % 5 == 0]
WHOLE_EPOCHS = {"train_ratio": 0.68}  # an epoch has as many windows in batches of 6 as in batches of 12


def check(size: int, chosen: list[Case]) -> None:
    found = run_program(size, "train", chosen, limit=150)
    assert len(found) == len(chosen)
    for case, one in zip(chosen, found, strict=True):
        assert one["same"], case
        assert difference(alone(case), one) <= TOLERANCE[case["dtype"]], case


@needs_mpi
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_train_as_one_process(size: int) -> None:
    check(size, CI)


@needs_mpi
def test_two_ranks_have_the_bits_of_one_process_that_accumulates_two_batches() -> None:
    ours = Case(settings={**WHOLE_EPOCHS, "drop_rate": 0.0}, dtype="float32", sharded=False)
    half = {"batch_size": 6, "accumulate": 2, "eval_iter": 200}
    once = Case(settings={**ours["settings"], **half}, dtype="float32", sharded=False)
    (found,), expected = run_program(2, "train", [ours]), trained(new_run(once), once)
    assert found["parameters"] == expected["parameters"]
    assert found["losses"] == expected["losses"]


WRONG: dict[str, dict[str, Any]] = {
    "unsummed loss": {},
    "clip before the sum": {},
    "mean of unequal rows": {},
    "hook on every batch": {"accumulate": 2},
    "evaluation on rank 0": {},
    "the same mask": {},
}


@needs_mpi
def test_each_wrong_design_has_other_losses() -> None:
    right = [Case(settings=settings, dtype="float64", sharded=False) for settings in WRONG.values()]
    wrong = [{**case, "wrong": name, "agree_every": 1000} for case, name in zip(right, WRONG, strict=True)]
    for name, case, found in zip(WRONG, right, run_program(2, "train", wrong), strict=True):
        assert difference(alone(case), found) > 1e-6, name


@needs_mpi
def test_ranks_whose_streams_part_are_stopped_by_a_comparison_of_their_states() -> None:
    case = {**Case(settings={}, dtype="float64", sharded=False), "wrong": "evaluation on rank 0"}
    (found,) = run_program(2, "train", [case])
    assert "before update 10, the loader's random stream on rank 1" in found["error"]


@needs_mpi
def test_the_script_of_all_combinations_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(0) == 0
    assert capsys.readouterr().out == "0 went wrong\n"
