"""A failure of one rank ends all: soon, with one line, an exit code that is not 0, and no process left."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from parallel.mpi import PROGRAMS, Job, errors, is_open_mpi, needs_mpi, run_ranks
from parallel.trainings import data_path

from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run_directory import checkpoints, step_of

pytestmark = needs_mpi

COMMAND = [sys.executable, str(PROGRAMS / "command.py"), "train"]
SIZES = ["--preset", "tiny", "--emb-dim", "16", "--n-heads", "2", "--n-layers", "1", "--context-length", "8"]
LENGTH = ["--n-merges", "20", "--epochs", "100000", "--eval-freq", "20", "--eval-iter", "1", "--sample-every", "100000"]
TIMEOUT = 2.0  # seconds that a rank may be silent
MORE = 5.0  # seconds until all has ended
SLOW = 20.0  # seconds more on a busy machine, which has its own tests of time


def started(directory: Path, size: int = 2, fault: Any = None, *options: str) -> tuple[Job, list[int]]:
    """A training that goes on until something ends it, after its first updates; and the processes of its ranks."""
    command = [*COMMAND, *SIZES, *LENGTH, "--data", str(data_path(directory)), "--out", str(directory / "run")]
    job = Job(size, [*command, "--rank-timeout", str(TIMEOUT), *options], FAULT=json.dumps(fault))
    assert job.stdout is not None
    processes: list[int] = []
    for line in job.stdout:
        if "rank (process)" in line:
            processes = [int(pid) for pid in re.findall(r"\((\d+)\)", line)]
        if "Step 000020" in line:
            break
    assert len(processes) == size
    return job, processes


def ended(job: Job, processes: list[int]) -> tuple[int, list[str], float]:
    """Wait for the end; returns the exit code, our lines and the seconds; every rank's process must be gone."""
    begun = time.monotonic()
    done = job.result(limit=TIMEOUT + MORE + SLOW)
    seconds = time.monotonic() - begun
    deadline = time.monotonic() + SLOW
    while left := [pid for pid in processes if exists(pid)]:
        assert time.monotonic() < deadline, f"left: {left}"
        time.sleep(0.05)
    return done.returncode, errors(done.stdout + done.stderr), seconds


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_out_of_memory_on_a_rank_ends_all_with_one_line_that_names_it(tmp_path: Path) -> None:
    job, processes = started(tmp_path, 2, {"rank": 1, "update": 30, "kind": "memory"})
    code, lines, _ = ended(job, processes)
    (line,) = lines
    assert re.fullmatch(r"error: rank 1 on \S+: out of memory \(2 GiB\); use a smaller model, batch or context", line)
    assert code != 0


def test_a_mistake_of_ours_on_a_rank_ends_all_with_its_traceback(tmp_path: Path) -> None:
    job, _ = started(tmp_path, 2, {"rank": 1, "update": 30, "kind": "bug"})
    done = job.result(limit=MORE + SLOW)
    assert "ZeroDivisionError: a mistake of ours" in done.stderr
    assert done.returncode != 0


def test_ranks_that_disagree_end_with_one_line(tmp_path: Path) -> None:
    code, lines, _ = ended(*started(tmp_path, 2, {"rank": 1, "update": 100, "kind": "other streams"}))
    (line,) = lines
    assert re.match(
        r"error: ranks: before update 100, the loader's random stream on rank 1 \(\S+, process \d+\) is", line
    )
    assert code != 0


def test_a_full_disk_on_rank_0_ends_all_with_one_line(tmp_path: Path) -> None:
    every = ["--checkpoint-every", "50"]
    code, lines, _ = ended(*started(tmp_path, 2, {"rank": 0, "kind": "full disk"}, *every))
    (line,) = lines
    assert "could not be written (the disk is full" in line
    assert f"--resume {tmp_path / 'run'}" in line
    assert code != 0


@pytest.mark.parametrize("arguments", [["--batch-size", "7"], ["--lr", "-1"], ["--epoch", "3"]])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    done = run_ranks(2, [*COMMAND, *SIZES, "--data", str(data_path(tmp_path)), *arguments], cwd=tmp_path)
    assert done.returncode == 2
    assert len(errors(done.stderr)) == 1
    assert is_open_mpi() or len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_diverges_is_one_line(tmp_path: Path) -> None:
    diverging = ["--out", "run", "--lr", "1e10", "--max-norm", "0", "--max-steps", "20"]
    done = run_ranks(2, [*COMMAND, *SIZES, "--data", str(data_path(tmp_path)), *diverging], cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert len(errors(done.stderr)) == 1
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_stopped_is_named_after_the_limit(tmp_path: Path, rank: int) -> None:
    job, processes = started(tmp_path)
    os.kill(processes[rank], signal.SIGSTOP)
    code, lines, seconds = ended(job, processes)
    (line,) = lines
    assert re.match(rf"error: rank {rank} \(\S+, process {processes[rank]}\) does not answer, for 2 s in ", line)
    assert re.search(r" of update \d+; the run ends, resume it with --resume$", line)
    assert seconds > TIMEOUT
    assert code != 0


def test_a_rank_that_is_killed_ends_all(tmp_path: Path) -> None:
    job, processes = started(tmp_path)
    os.kill(processes[1], signal.SIGKILL)
    code, _, _ = ended(job, processes)
    assert code != 0


passes_signals = pytest.mark.skipif(is_open_mpi(), reason="needs MPICH: Open MPI's mpiexec kills the ranks")


@passes_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_mpiexec_stops_all_after_the_same_update_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals
) -> None:
    job, processes = started(tmp_path)
    os.kill(job.pid, number)
    check_stopped(job, processes, number, tmp_path / "run")


def test_a_signal_to_any_rank_stops_all_after_the_same_update_with_a_checkpoint(tmp_path: Path) -> None:
    job, processes = started(tmp_path)
    os.kill(processes[1], signal.SIGTERM)
    check_stopped(job, processes, signal.SIGTERM, tmp_path / "run")


def check_stopped(job: Job, processes: list[int], number: signal.Signals, run: Path) -> None:
    done = job.result(limit=MORE + SLOW)
    assert done.returncode == 128 + number, done.stderr
    assert f"resume with: nanograd-gpt train --resume {run}" in done.stdout
    assert not any(exists(pid) for pid in processes)
    last, metrics = checkpoints(run)[-1], read_metrics(run / "metrics.jsonl")
    assert step_of(last) == metrics.steps[-1]["step"] >= 20


@passes_signals
def test_the_whole_foreground_group_is_signalled_by_a_terminal_and_stops_once(tmp_path: Path) -> None:
    job, _ = started(tmp_path)
    os.killpg(job.pid, signal.SIGINT)  # to mpiexec, which signals the ranks again, and to the ranks
    done = job.result(limit=MORE + SLOW)
    assert done.returncode == 130, done.stderr
    assert "stopped by Ctrl-C" in done.stdout
    assert not errors(done.stderr)
