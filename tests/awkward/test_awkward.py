"""A few awkward environments, each in processes of its own; awkward/run.py has them all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from awkward.environments import ENVIRONMENTS
from awkward.run import Place, chosen_inputs, judged
from awkward.verdict import wrong

CHOSEN = [
    *(
        "python -OO: generate",
        "MPLBACKEND=nonsense: plot",
        "NANOGRAD_THREADS=nonsense: generate",
        "generate <&- >&- 2>&-",
    ),
    *("info >/dev/full", "info 1</dev/null", "trian 2>/dev/full", "ulimit -v 100000: generate", "ulimit -n 5: info"),
    *("mkdir gone; cd gone; rmdir ../gone: info", "PYTHONWARNINGS=error: generate", "PYTHONIOENCODING=ascii: generate"),
]
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="needs bash, for its limits and redirections"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Place(Path(directory))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_in_an_awkward_environment_a_command_works_or_says_one_line(place: Place, name: str) -> None:
    environment = next(environment for environment in ENVIRONMENTS if environment.name == name)
    assert judged(place, environment) is None


def test_the_tables_have_five_hundred_inputs_and_a_hundred_environments() -> None:
    assert len({tuple(environment.argv) for environment in chosen_inputs(500)}) >= 490
    assert len({environment.name for environment in ENVIRONMENTS}) >= 100


@pytest.mark.parametrize(
    ("code", "err", "fault"),
    [
        (0, "", None),
        (0, "note: a\n", None),
        (2, "note: a\nerror: b\n", None),
        (143, "error: a\n", None),
        (-15, "error: a\n", None),
        (2, "", "0 lines"),
        (2, "error: a\nb\n", "2 lines"),
        (0, "Warning: a\n", "noise"),
        (139, "error: a\n", "exit 139"),
        (1, "Traceback (most recent call last):\n", "a traceback"),
        (1, "error: [Errno 2] No such file\n", "the number of an error"),
        (2, f"error: {'a' * 5000}\n", "5008 characters"),
    ],
)
def test_the_verdict_finds_each_fault(code: int, err: str, fault: str | None) -> None:
    assert wrong(code, "", err) == fault


def test_a_failure_that_nobody_hears_needs_no_line() -> None:
    assert wrong(2, "", "", heard=False) is None
