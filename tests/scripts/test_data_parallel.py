"""The claims of scripts/15_data_parallel.py can fail, and a missing MPI, or an error of a rank, is one line."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import _two_ranks
import pytest
from _one_line import UsageError

from nanograd_gpt.backend.cpu.threads import n_threads, set_threads
from nanograd_gpt.errors import RunError

SCRIPT = Path(__file__).parents[2] / "scripts" / "15_data_parallel.py"
WRONG = [  # in the script's text, and what stands for it
    ("RIGHT: RIGHT,", "RIGHT: UNSUMMED,"),
    ('"nothing summed": UNSUMMED', '"nothing summed": RIGHT'),
    ('"rank 0 evaluates": ONE_EVALUATES', '"rank 0 evaluates": RIGHT'),
    ('"one mask for all": SAME_MASK', '"one mask for all": RIGHT'),
    ('"clipped, then summed": CLIPPED_FIRST', '"clipped, then summed": RIGHT'),
    ('for part in of["sums"]] for of', 'for part in of["sums"][of["bytes"] % 3 :]] for of'),
    ("sent[0] == sent[1])", "sent[0] == sent[1][::-1])"),
    ('< of["times"][2]', '< of["times"][0]'),
]
CLAIMS = (
    "two ranks have the losses of one process",
    "nothing summed",
    "rank 0 evaluates",
    "one mask for all",
    "clipped, then summed",
    "comparing parameters finds",
    "comparing streams finds",
    "the other two mistakes",
    "have each of the gradient's bytes once",
    "in the same order",
    "begin while the backward pass goes on",
)
needs_mpi = pytest.mark.skipif(_two_ranks.missing_mpi() is not None, reason=str(_two_ranks.missing_mpi()))


@pytest.mark.slow
@needs_mpi
def test_each_claim_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    for right, wrong in WRONG:
        assert source.count(right) == 1
        source = source.replace(right, wrong)
    monkeypatch.setattr("sys.argv", ["script.py", "--fast", "--out", str(tmp_path)])
    threads = n_threads()
    with pytest.raises(SystemExit, match="1"):
        exec(compile(source, SCRIPT.name, "exec"), {"__name__": "script", "__doc__": "A deep dive."})
    set_threads(threads)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("  [FAILS] ", "  [holds] "))]
    assert [line for line in lines if "[FAILS]" in line] == lines
    assert all(claim in line for claim, line in zip(CLAIMS, lines, strict=True))


def test_without_mpi4py_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mpi4py'] = None\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SCRIPT.parents[1])])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--fast", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    line = f"error: mpi4py is not installed, and two ranks need it; {_two_ranks.INSTALL}\n"
    assert (done.returncode, done.stderr) == (1, line)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place for programs, and mpi4py as if it were installed."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def launcher(path: Path, says: str) -> str:
    """A program in place of mpiexec, which says something and ends with 3."""
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 3\n")
    path.chmod(0o755)
    return str(path)


def test_without_mpiexec_it_says_what_to_install(elsewhere: Path) -> None:
    with pytest.raises(RunError, match=r"^mpiexec is not installed, and two ranks need it; pip install "):
        _two_ranks.in_two_ranks([], 1, 1)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for mpiexec")
def test_mpiexec_is_that_beside_python_or_else_the_one_on_path(elsewhere: Path) -> None:
    on_path = launcher(elsewhere / "bin" / "mpiexec", "on PATH")
    assert _two_ranks.mpiexec() == on_path
    beside = launcher(elsewhere / "mpiexec", "beside Python")
    assert _two_ranks.mpiexec() == beside


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for mpiexec")
def test_what_ends_the_ranks_is_shown(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launcher(elsewhere / "mpiexec", "no slots")
    with pytest.raises(RunError, match=r"^the two ranks ended with exit code 3, for the reason above$"):
        _two_ranks.in_two_ranks([], 1, 1)
    assert capsys.readouterr().err == "no slots\n"


@needs_mpi
def test_an_error_in_the_ranks_ends_them(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"^the two ranks ended with exit code "):
        _two_ranks.in_two_ranks([_two_ranks.RIGHT], -1, 1)
    assert "InputError: " in capfd.readouterr().err


def test_it_is_not_started_with_mpiexec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    with pytest.raises(UsageError, match=r"starts its two ranks itself; run it without mpiexec$"):
        _two_ranks.in_two_ranks([], 1, 1)
