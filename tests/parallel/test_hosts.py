"""Several hosts: a failure of one ends all, in time; and what the imitated hosts leave behind: nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from parallel.mpi import PATHS, PROGRAMS
from parallel.trainings import data_path
from project_files import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import hosts
from hosts import Hosts

pytestmark = pytest.mark.skipif(hosts.missing() is not None, reason=str(hosts.missing()))

TIMEOUT = 3.0  # seconds that a rank may be silent
MORE = 5.0  # seconds until all has ended
SLOW = 20.0  # seconds more on a busy machine
SIZES = ["--preset", "tiny", "--emb-dim", "16", "--n-heads", "2", "--n-layers", "1", "--context-length", "8"]
LENGTH = ["--n-merges", "20", "--epochs", "100000", "--eval-freq", "20", "--eval-iter", "1", "--sample-every", "100000"]


def end_of_training(directory: Path, fail: Callable[[Hosts], None]) -> tuple[int, list[str], str, float]:
    """Train on two hosts until one of them fails; returns the exit code, our lines, all lines, and the seconds it took.

    No process may be left on either host.
    """
    settings = [*SIZES, *LENGTH, "--data", str(data_path(directory)), "--out", str(directory / "run")]
    command = [str(PROGRAMS / "command.py"), "train", *settings, "--rank-timeout", str(TIMEOUT)]
    with Hosts(2) as both:
        job = both.start(sys.executable, *command, env={"NANOGRAD_THREADS": "1", "PYTHONPATH": PATHS})
        assert job.stdout is not None
        for line in job.stdout:
            if "Step 000020" in line:
                break
        begun = time.monotonic()
        fail(both)
        output, errors = job.communicate(timeout=TIMEOUT + MORE + SLOW)
        seconds = time.monotonic() - begun
        while left := [both.processes(i) for i in range(2) if both.processes(i)]:
            assert time.monotonic() < begun + TIMEOUT + MORE + SLOW, f"left: {left}"
            time.sleep(0.05)
    lines = [line for line in (output + errors).splitlines() if line.startswith("error: ")]
    return job.returncode, lines, output + errors, seconds


@pytest.mark.slow
def test_a_host_whose_cable_is_pulled_is_named_after_the_limit(tmp_path: Path) -> None:
    code, lines, _, seconds = end_of_training(tmp_path, lambda both: both.pull_cable(1))
    (line,) = lines
    assert re.match(
        r"error: rank 1 \(h1, process \d+\) does not answer, for 3 s in .* of update \d+; the run ends", line
    )
    assert seconds > TIMEOUT
    assert code != 0


@pytest.mark.slow
def test_a_host_whose_processes_are_all_killed_ends_all(tmp_path: Path) -> None:
    """mpiexec sees it before a rank can: its own process there is gone too, and it stops with lines of its own."""
    code, lines, errors, _ = end_of_training(tmp_path, lambda both: both.kill_all(1))
    assert code != 0
    assert lines == []
    assert "Traceback" not in errors
    assert "mpiexec" in errors


@pytest.mark.slow
def test_a_rank_that_is_killed_on_another_host_ends_all(tmp_path: Path) -> None:
    def kill(both: Hosts) -> None:
        rank = max(both.processes(1))  # the launcher's was started before it
        subprocess.run(["kill", "-KILL", str(rank)], check=True)

    code, lines, errors, _ = end_of_training(tmp_path, kill)
    assert code != 0
    assert lines == []
    assert "BAD TERMINATION" in errors


def test_hosts_are_removed_with_their_processes_whatever_happens() -> None:
    both = Hosts(2)
    job = None

    def fail_inside() -> None:
        nonlocal job
        with both:
            job = both.start("sleep", "100")
            while not both.processes(1):
                time.sleep(0.01)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert job is not None
    assert job.returncode not in (0, None)
    assert not [name for name in hosts._namespaces() if name.startswith(both.name)]


def test_hosts_that_a_killed_process_has_left_are_removed_by_the_next() -> None:
    leave = "import os; from hosts import Hosts; h = Hosts(2).__enter__(); print(h.name, flush=True); os._exit(0)"
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", leave],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    left = done.stdout.strip()
    assert f"{left}-h1" in hosts._namespaces()
    with Hosts(1):
        assert not [name for name in hosts._namespaces() if name.startswith(f"{left}-")]


def test_a_limited_link_counts_the_bytes_that_it_carries() -> None:
    send = "from mpi4py import MPI; import numpy as np; c = MPI.COMM_WORLD; a = np.ones(250_000); c.Bcast(a)"
    with Hosts(2, bits_per_second=1e9) as both:
        both.run(sys.executable, "-c", send, seconds=30)
        sent, answered = both.sent(0), both.sent(1)
    assert 2_000_000 < sent < 2_200_000
    assert answered < 200_000
