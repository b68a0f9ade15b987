"""Two ranks with a GPU each train as one process does on one GPU.  These tests have not been run on GPUs yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from parallel.gpu_trainings import CASES, STOP, alone, joined, on_gpus
from parallel.mpi import needs_mpi, run_program
from parallel.trainings import Case, difference, new_run, trained

pytestmark = [needs_mpi, pytest.mark.gpu, pytest.mark.usefixtures("two_gpus")]


def why_not_two_gpus() -> str | None:
    """The reason why a test cannot have two GPUs here; None if it can."""
    cupy = pytest.importorskip("cupy")
    if not cupy.is_available() or (found := cupy.cuda.runtime.getDeviceCount()) < 2:
        return f"needs two GPUs, and this host has {found if cupy.is_available() else 0}"
    from nanograd_gpt.backend.cuda.nccl import nccl_problem

    return nccl_problem()


@pytest.fixture
def two_gpus() -> None:
    if reason := why_not_two_gpus():
        pytest.skip(reason)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_two_gpus_train_as_one(dtype: str, tolerance: float) -> None:
    cases = [on_gpus(settings, sharded, dtype) for settings, sharded in CASES]
    for (settings, _), one in zip(CASES, run_program(2, "train", cases, limit=300), strict=True):
        assert one["same"], settings
        assert difference(alone(settings, dtype, "cuda"), one) <= tolerance, settings


@pytest.mark.parametrize("sharded", [False, True])
def test_a_training_on_two_gpus_goes_on_with_one(tmp_path: Path, sharded: bool) -> None:
    half: Case = {**on_gpus({}, sharded), "stop": STOP, "directory": str(tmp_path)}
    (before,) = run_program(2, "train", [half], limit=300)
    rest: Case = {**on_gpus({}, False), "directory": str(tmp_path)}
    after = trained(new_run(rest), rest)
    assert difference(alone({}, device="cuda"), joined(before, after)) <= 1e-12
