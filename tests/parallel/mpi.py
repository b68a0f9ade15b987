"""Programs run by mpiexec, each rank as a process of its own, within a time limit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import nanograd_gpt

PROGRAMS = Path(__file__).parent / "programs"
TESTS = Path(__file__).parents[1]
PATHS = os.pathsep.join([str(TESTS), str(Path(nanograd_gpt.__file__).parents[1])])  # the package under test


@cache
def mpiexec() -> tuple[str, ...] | None:
    """The launcher beside this Python, or else the one on PATH, and what it needs to start more ranks than cores."""
    beside = Path(sys.executable).with_name("mpiexec")
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    if "Open MPI" in version or "OpenRTE" in version or "prte" in version:
        return path, "--allow-run-as-root", "--oversubscribe"
    return (path,)


def is_open_mpi() -> bool:
    """Tell whether the launcher is Open MPI's, which kills ranks on Ctrl-C, and adds lines of its own to an error."""
    return len(mpiexec() or ()) > 1


def errors(text: str) -> list[str]:
    """The lines of our errors."""
    return [line for line in text.splitlines() if line.startswith("error: ")]


def why_no_mpi() -> str | None:
    """Why ranks cannot be started here; None if they can."""
    if find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    return None if mpiexec() else "mpiexec is not installed"


needs_mpi = pytest.mark.skipif(why_no_mpi() is not None, reason=f"needs MPI: {why_no_mpi()}")


def environment(**more: str) -> dict[str, str]:
    """The environment of ranks: one thread each, and no launcher around this test itself."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PMI_", "OMPI_", "PMIX_"))}
    return {**own, "NANOGRAD_THREADS": "1", "PYTHONPATH": PATHS, **more}


class Job(subprocess.Popen[str]):
    """A running mpiexec with all that it has started, in a process group of its own."""

    def __init__(self, size: int, command: Sequence[str], cwd: Path | None = None, **more: str) -> None:
        launcher = mpiexec()
        assert launcher is not None
        super().__init__(
            [*launcher, "-n", str(size), *command],
            cwd=cwd,
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def result(self, limit: float) -> subprocess.CompletedProcess[str]:
        """Wait for the end; after `limit` seconds all processes are killed, and the test fails."""
        try:
            out, err = self.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            out, err = self.communicate()
            pytest.fail(f"mpiexec did not end within {limit} s:\n{out}\n{err}")
        return subprocess.CompletedProcess(self.args, self.returncode, out, err)


def run_ranks(size: int, command: Sequence[str], limit: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in `size` ranks to its end."""
    return Job(size, command, **more).result(limit)


def run_program(size: int, name: str, spec: Any, limit: float = 60) -> Any:
    """Run programs/NAME.py in `size` ranks with a JSON value; returns the JSON value that rank 0 prints last."""
    done = run_ranks(size, [sys.executable, str(PROGRAMS / f"{name}.py"), json.dumps(spec)], limit)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
