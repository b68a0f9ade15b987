"""A training saved on some ranks goes on with any number of ranks, as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from parallel.mpi import needs_mpi, run_program
from parallel.trainings import Case, difference, new_run, trained

pytestmark = needs_mpi

STOP = 23  # updates: within an epoch, and not at an evaluation


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(("first", "then"), [(2, (1, 4)), (4, (1,))])
def test_a_training_goes_on_with_another_number_of_ranks(
    tmp_path: Path, first: int, then: tuple[int, ...], sharded: bool
) -> None:
    whole = Case(settings={}, dtype="float64", sharded=False)
    expected = trained(new_run(whole), whole)
    half = Case(settings={}, dtype="float64", sharded=sharded, stop=STOP, directory=str(tmp_path))
    (before,) = run_program(first, "train", [half])
    rest = Case(settings={}, dtype="float64", sharded=sharded, directory=str(tmp_path))
    for size in then:
        (after,) = run_program(size, "train", [rest])
        joined = {
            "tokens": after["tokens"],
            **{name: before[name] + after[name] for name in ("losses", "norms", "evaluations")},
        }
        assert difference(expected, joined) <= 1e-13
