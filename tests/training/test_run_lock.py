"""One process at a time writes to a run's directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training.small import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.training.run_lock import run_lock

HOLD = """
import sys
from pathlib import Path
from nanograd_gpt.training.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with (
            pytest.raises(InputError, match=f"is being written by process {process.pid}; wait") as error,
            run_lock(tmp_path),
        ):
            raise AssertionError("not reached")
        assert str(tmp_path) in one_line(error)
        process.communicate()
    with run_lock(tmp_path):
        assert (tmp_path / ".lock").read_text(encoding="ascii") == str(os.getpid())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_the_death_of_a_writer_frees_its_run(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with run_lock(tmp_path):
        pass


def test_a_writer_may_come_back(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path):
            pass
