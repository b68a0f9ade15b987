"""Saving, resuming, pruning and locking as Linux, macOS and Windows have it, imitated on Linux."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from threading import Event, Thread

import pytest
from cli.commands import fails, nanograd, train, works
from cli.imitation import Disk, imitate, open_paths

from nanograd_gpt import files
from nanograd_gpt.cli.signals import Signals, is_closed_pipe
from nanograd_gpt.cli.windows_names import why_not_on_windows
from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.training.find_checkpoint import recover_checkpoints
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run_directory import checkpoints
from nanograd_gpt.training.run_lock import new_run, run_lock

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the imitation asks Linux which files are open"),
]
SYSTEMS = [("linux", True), ("darwin", True), ("darwin", False), ("win32", True)]


@pytest.fixture(params=SYSTEMS, ids=["Linux", "macOS", "macOS without F_FULLFSYNC", "Windows"])
def disk(request: pytest.FixtureRequest, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The package on another system, once the shared run is trained."""
    platform, full_fsync = request.param
    return imitate(platform, monkeypatch, full_fsync)


@pytest.fixture
def windows(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return imitate("win32", monkeypatch)


def state_of(run: Path) -> list[bytes]:
    newest = checkpoints(run)[-1]
    return [(newest / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def test_open_files_can_be_listed_while_another_thread_closes_some(tmp_path: Path) -> None:
    done = Event()

    def open_and_close() -> None:
        while not done.is_set():
            (tmp_path / "brief.txt").write_text("brief")

    other = Thread(target=open_and_close)
    with (tmp_path / "held.txt").open("w"):
        other.start()
        try:
            assert all(str(tmp_path / "held.txt") in open_paths() for _ in range(2000))
        finally:
            done.set()
            other.join()


def test_a_run_is_saved_pruned_and_resumed_with_each_rename_on_the_disk_before_and_after(
    disk: Disk, tmp_path: Path, data: Path
) -> None:
    run, whole = tmp_path / "run", tmp_path / "new" / "whole"
    frequent = ["--checkpoint-every", 2, "--keep", 1]
    works(*train(run, data, "--epochs", 1, *frequent))
    assert disk.renames.count("best") >= 2  # one was replaced
    assert [path.name for path in checkpoints(run)] == ["step_5"]
    works("train", "--resume", run, "--epochs", 2, "--decay-steps", 0)
    assert [path.name for path in checkpoints(run)] == ["step_11"]
    works(*train(whole, data, "--epochs", 2, *frequent))
    assert state_of(run) == state_of(whole)
    assert read_metrics(run / "metrics.jsonl").samples == read_metrics(whole / "metrics.jsonl").samples
    works("convert", run, tmp_path / "model.safetensors")
    works("convert", run, tmp_path / "layout")
    assert {"step_5", "best", "config.toml", "model.safetensors", "layout"} <= {*disk.renames}
    assert disk.wrong == []


def test_what_a_crash_left_is_on_the_disk_before_it_takes_its_place(disk: Disk, tmp_path: Path, trained: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "checkpoints" / "step_9").rename(run / "checkpoints" / ".step_9.partial")
    shutil.copytree(run / "checkpoints" / "step_7", run / "checkpoints" / ".step_7.old")
    disk.wrong.clear()  # of the renaming above
    disk.owed = None
    recover_checkpoints(run)
    assert [path.name for path in checkpoints(run)] == ["step_7", "step_9"]
    assert not list((run / "checkpoints").glob(".*"))
    assert disk.wrong == []


def test_one_process_holds_a_run_and_its_end_frees_it(disk: Disk, tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with pytest.raises(InputError, match=f"is being written by process {os.getpid()}; wait"), run_lock(tmp_path):
            raise AssertionError("not reached")
        assert (tmp_path / ".lock").read_text(encoding="ascii") == str(os.getpid())
    with run_lock(tmp_path):
        pass


def test_a_run_that_fails_before_it_wrote_anything_leaves_no_directory(disk: Disk, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="full"), new_run(tmp_path / "run", "tiny"):
        raise RunError("full")
    assert not any(tmp_path.iterdir())


def test_a_file_system_without_locks_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(RunError, match=r"cannot be locked \(No locks available\); give a directory of another"):
        run_lock(tmp_path).__enter__()


# --- Windows: open files


def test_an_old_checkpoint_that_a_reader_has_open_stays_with_a_note(windows: Disk, tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--epochs", 1, "--keep", 1))
    with (run / "checkpoints" / "step_5" / "MANIFEST.json").open():
        result = nanograd("train", "--resume", run, "--epochs", 2)
    assert result.code == 0
    said = f"note: {run / 'checkpoints' / 'step_5'} could not be deleted (The process cannot access the file because "
    assert result.err.startswith(said)
    assert result.err.endswith("the next checkpoint or --resume tries again\n")
    assert "is complete" in works("train", "--resume", run)
    assert [path.name for path in checkpoints(run)] == ["step_11"]
    works("train", "--resume", run, "--epochs", 3)
    assert [path.name for path in checkpoints(run)] == ["step_17"]


def test_a_file_that_is_open_for_a_moment_is_waited_for(
    windows: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    scanner = path.open()
    monkeypatch.setattr(files, "sleep", lambda seconds: scanner.close())
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    monkeypatch.setattr(files, "sleep", lambda seconds: None)
    with path.open(), pytest.raises(PermissionError, match="being used by another process"):
        files.write_whole(path, b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- Windows: signals, pipes and names


def test_ctrl_break_and_a_closed_console_stop_a_run_as_sighup_does(windows: Disk) -> None:
    told: list[str] = []
    with Signals(told.append) as signals:
        signal.raise_signal(signal.SIGUSR1)  # the imitation's SIGBREAK
        assert signals.received == signal.SIGUSR1
    assert len(told) == 1


def test_a_closed_pipe_has_another_error_on_windows(windows: Disk) -> None:
    assert is_closed_pipe(OSError(errno.EINVAL, "Invalid argument"))
    assert is_closed_pipe(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert not is_closed_pipe(OSError(errno.EINVAL, "Invalid argument", "a file"))
    assert not is_closed_pipe(OSError(errno.ENOSPC, "No space left on device"))


@pytest.mark.skipif(sys.platform == "win32", reason="there it is a closed pipe's")
def test_elsewhere_only_a_broken_pipe_is_a_closed_one() -> None:
    assert not is_closed_pipe(OSError(errno.EINVAL, "Invalid argument"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("con", "'con' is a device's name on Windows"),
        ("runs\\NUL.txt", "'NUL.txt' is a device's name on Windows"),
        ("C:/runs/lpt1", "'lpt1' is a device's name on Windows"),
        ("runs/a?", "'a?' has '?', which names on Windows cannot have"),
        ("a\tb", "'a\\tb' has '\\t', which names on Windows cannot have"),
        ("C:\\a:b", "'a:b' has ':', which names on Windows cannot have"),
        ("runs./x", "'runs.' ends in a dot or a space, which Windows drops"),
        ("runs/x ", "'x ' ends in a dot or a space, which Windows drops"),
        ("C:\\Users\\me\\runs\\tiny-2", None),
        ("..\\console\\.lock", None),
        ("\\\\server\\share\\nullable.json", None),
        (".", None),
    ],
)
def test_a_name_that_windows_cannot_have_is_told(path: str, reason: str | None) -> None:
    assert why_not_on_windows(path) == reason


def test_a_name_that_windows_cannot_have_is_refused_there_alone(windows: Disk, tmp_path: Path) -> None:
    assert fails("train", "--out", "aux") == (
        "nanograd-gpt train: argument --out: 'aux' is a device's name on Windows; see nanograd-gpt train --help"
    )
