"""The start of several processes: what a launcher has set, and one line where MPI does not join them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from parallel.mpi import environment, errors, needs_mpi, run_ranks
from training.small import one_line

from nanograd_gpt.errors import RunError
from nanograd_gpt.parallel.launched import RING, _prefer_ring, launched, mpi_ranks

VARIABLES = ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("library", [("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")])
def test_a_launcher_tells_rank_and_size(monkeypatch: pytest.MonkeyPatch, library: tuple[str, str]) -> None:
    for name, value in zip(library, ("4", "3"), strict=True):
        monkeypatch.setenv(name, value)
    place = launched()
    assert place is not None
    assert (place.rank, place.size) == (3, 4)


@pytest.mark.parametrize(
    ("size", "on_this_host", "chosen"),
    [(2, "1", True), (16, "4", True), (17, "4", False), (4, "4", False), (4, "", False)],
)
def test_a_few_ranks_on_several_hosts_sum_in_a_ring(
    monkeypatch: pytest.MonkeyPatch, size: int, on_this_host: str, chosen: bool
) -> None:
    monkeypatch.setattr(os, "environ", {"MPI_LOCALNRANKS": on_this_host})
    _prefer_ring(size)
    assert [name for name in RING if name in os.environ] == ([*RING] if chosen else [])


def test_a_user_chooses_another_sum_than_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    own = dict.fromkeys(RING, "auto")
    monkeypatch.setattr(os, "environ", {"MPI_LOCALNRANKS": "1", **own})
    _prefer_ring(2)
    assert {name: os.environ[name] for name in RING} == own


@pytest.mark.parametrize(("size", "rank"), [("1", "0"), ("", ""), ("two", "0")])
def test_one_process_and_nonsense_are_no_ranks(monkeypatch: pytest.MonkeyPatch, size: str, rank: str) -> None:
    monkeypatch.setenv("PMI_SIZE", size)
    monkeypatch.setenv("PMI_RANK", rank)
    assert launched() is None


def test_mpi_is_not_imported_for_one_process() -> None:
    code = "import sys, nanograd_gpt.cli as cli; cli.main(['--version']); print('mpi4py' in sys.modules)"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"try:\n exec({code!r})\nexcept SystemExit:\n import sys; print('mpi4py' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(PYTHONPATH=str(Path(__file__).parents[2])),
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            ModuleNotFoundError("No module named 'mpi4py'"),
            "mpi4py is not installed; pip install 'nanograd-gpt[mpi]' mpich",
        ),
        (
            RuntimeError("cannot load MPI library\nlibmpi.so: no such file"),
            "(cannot load MPI library libmpi.so: no such",
        ),
        (ImportError("libmpi.so.12: cannot open shared object file"), "libmpi.so.12: cannot open shared object file"),
    ],
)
def test_a_missing_mpi_is_one_line(monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name.split(".")[0] == "mpi4py":
                raise raised

    for name in [name for name in sys.modules if name.split(".")[0] == "mpi4py"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    place = launched()
    assert place is not None
    with pytest.raises(RunError) as error:
        mpi_ranks(place)
    assert said in one_line(error)


@needs_mpi
@pytest.mark.parametrize("launcher", ["PMI", "OMPI_COMM_WORLD"])
def test_a_launcher_whose_processes_mpi_does_not_join_is_one_line_and_exit_code_1(
    launcher: str, tmp_path: Path
) -> None:
    """Each process is alone for MPI, as where mpiexec and mpi4py are of two libraries."""
    codes, lines = [], []
    for rank in (0, 1):
        own = {f"{launcher}_SIZE": "2", f"{launcher}_RANK": str(rank)}
        done = subprocess.run(
            [sys.executable, "-m", "nanograd_gpt", "train", "--dry-run"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
            env=environment(**own, PYTHONPATH=str(Path(__file__).parents[2])),
        )
        codes.append(done.returncode)
        lines += done.stderr.splitlines()
    (line,) = lines
    assert line.startswith(
        "error: ranks: mpiexec started 2 processes that its MPI does not join, since mpi4py uses another: "
    )
    assert codes == [1, 1]


@needs_mpi
def test_only_train_runs_in_several_processes() -> None:
    done = run_ranks(2, [sys.executable, "-m", "nanograd_gpt", "info"])
    assert errors(done.stderr) == ["error: info: only train runs in several processes; start this one without mpiexec"]
    assert done.returncode == 2


@needs_mpi
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["train", "--dry-run"]])
def test_what_needs_no_ranks_is_printed_once(arguments: list[str], tmp_path: Path) -> None:
    done = run_ranks(2, [sys.executable, "-m", "nanograd_gpt", *arguments], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    once = done.stdout.splitlines()[0]
    assert done.stdout.splitlines().count(once) == 1
    assert not os.listdir(tmp_path)
