"""The programs in tests/ take a number of trials, and refuse what is none without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from count_argument import count_arguments
from project_files import ROOT

PROGRAMS = [
    "tests/awkward/run.py",
    "tests/fuzz/run.py",
    "tests/kills/disks.py",
    "tests/kills/faults.py",
    "tests/kills/run.py",
    "tests/kills/together.py",
    "tests/parallel/run.py",
]


@pytest.mark.skipif(sys.platform == "win32", reason="the programs use POSIX processes")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_word_in_place_of_a_number_is_refused(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(ROOT / program), "abc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(": invalid whole number value: 'abc'\n")
    assert "Traceback" not in done.stderr


def test_numbers_left_out_have_their_defaults() -> None:
    assert count_arguments("About", [], COUNT=7, SEED=0) == [7, 0]
    assert count_arguments("About", ["12"], COUNT=7, SEED=0) == [12, 0]
    assert count_arguments("About", ["12", "3"], COUNT=7, SEED=0) == [12, 3]


@pytest.mark.parametrize("argument", ["-1", "1.5", ""])
def test_others_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        count_arguments("About", [argument], N=1)
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err
