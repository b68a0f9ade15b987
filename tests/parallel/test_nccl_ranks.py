"""Ranks with a GPU each train as one process does: on a stand-in for NCCL, for which MPI carries the arrays."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cusim.checks import needs_compiler
from parallel.gpu_trainings import CASES, LENGTH, STOP, alone, joined, on_gpus
from parallel.mpi import PROGRAMS, needs_mpi, run_ranks
from parallel.trainings import Case, data_path, difference, new_run, trained

pytestmark = [needs_mpi, needs_compiler]

STANDIN = [sys.executable, str(PROGRAMS / "on_standin.py")]
INSTALL = "NCCL is not installed (pip install nvidia-nccl-cu12); or train with --device cpu"


def on_standin(size: int, program: str, spec: Any, limit: float = 120) -> Any:
    done = run_ranks(size, [*STANDIN, program, json.dumps(spec)], limit)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_ranks_with_a_gpu_each_train_as_one_process() -> None:
    found = on_standin(3, "train", [on_gpus(settings, sharded) for settings, sharded in CASES])
    for (settings, _), one in zip(CASES, found, strict=True):
        assert one["same"], settings
        assert difference(alone(settings), one) <= 1e-13, settings
    assert found[3]["moments"] <= found[0]["moments"] / 3 + 64


@pytest.mark.slow
def test_in_float32_by_the_kernels_too() -> None:
    (found,) = on_standin(2, "train", [on_gpus({}, True, "float32")], limit=300)
    assert found["same"]
    assert difference(alone({}, "float32"), found) <= 1e-6


@pytest.mark.parametrize("sharded", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_training_on_two_gpus_goes_on_with_three_and_on_the_cpu(tmp_path: Path, sharded: bool) -> None:
    half: Case = {**on_gpus({}, sharded), "stop": STOP, "directory": str(tmp_path)}
    (before,) = on_standin(2, "train", [half])
    rest: Case = {**on_gpus({}, sharded), "directory": str(tmp_path)}
    on_cpu: Case = {**rest, "device": "cpu"}
    for after in (*on_standin(3, "train", [rest]), trained(new_run(on_cpu), on_cpu)):
        assert difference(alone({}), joined(before, after)) <= 1e-13


@pytest.mark.parametrize("sharded", [False, True])
def test_in_an_update_no_host_waits_for_its_gpu(sharded: bool) -> None:
    case = on_gpus({"eval_freq": 1000, "watch_every": 0}, sharded)
    waits, gpus, kinds, sums = on_standin(2, "host_waits", case)
    assert waits == [[], []]
    assert gpus == [0, 1]
    assert kinds == ["NCCLRanks"] * 2
    assert sums[0] == sums[1] >= 2 * LENGTH["max_steps"]


def command(directory: Path, faults: dict[str, Any]) -> Any:
    """A training by the command line on two ranks."""
    small = ["--preset", "tiny", "--emb-dim", "16", "--n-heads", "2", "--context-length", "8", "--n-merges", "20"]
    files = ["--data", str(data_path(directory)), "--out", str(directory / "run")]
    more = {"STANDIN": json.dumps(faults)}
    return run_ranks(2, [*STANDIN, "command", "train", *small, *files, "--device", "cuda"], **more)


def errors(done: Any) -> list[str]:
    """The lines with errors of ours, before which Open MPI may print bytes of its own."""
    return [line for line in (done.stdout + done.stderr).splitlines() if "error: " in line]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a GPU too few": ({"gpus": 1}, "has 1 GPU for 2 ranks, and NCCL needs one for each: start at most 1 there, or"),
    "no NCCL on rank 1": ({"without NCCL": 1}, f"): {INSTALL}"),
    "no NCCL on rank 0": ({"without NCCL": 0}, f"ranks: the GPU cannot be used: {INSTALL}"),
    "NCCL fails": ({"failing": "nccl"}, "ranks: NCCL does not join the GPUs: NCCL_ERROR_INVALID_USAGE: invalid usage"),
}


@pytest.mark.parametrize(
    ("faults", "message"),
    [pytest.param(*case, id=name, marks=[pytest.mark.slow] * (i > 1)) for i, (name, case) in enumerate(FAULTS.items())],
)
def test_what_is_missing_is_one_line_and_ends_all(tmp_path: Path, faults: dict[str, Any], message: str) -> None:
    done = command(tmp_path, faults)
    (line,) = errors(done)
    assert message in line
    assert done.returncode != 0


def test_an_error_that_nccl_notices_ends_a_training_before_the_next_update() -> None:
    done = run_ranks(
        2, [*STANDIN, "train", json.dumps([on_gpus({}, False)])], STANDIN=json.dumps({"failing": "NCCL's network"})
    )
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert found["error"].startswith("ranks: NCCL lost the other GPUs: ")


def test_the_watchdog_sees_a_gpu_that_waits_for_a_rank_that_is_stopped() -> None:
    done = run_ranks(2, [sys.executable, str(PROGRAMS / "gpu_waits.py"), "stopped"])
    (line,) = errors(done)
    assert "rank 1 (" in line
    assert "does not answer, for 0.5 s in the sum of gradients" in line
    assert done.returncode != 0


def test_the_watchdog_lets_a_gpu_wait_for_ranks_that_answer() -> None:
    done = run_ranks(2, [sys.executable, str(PROGRAMS / "gpu_waits.py"), "slow"])
    assert (done.returncode, errors(done)) == (0, [])
