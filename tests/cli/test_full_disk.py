"""A full disk: one line that says so, names the file, and what to do next."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commands import Result, complaint, fails, nanograd, train

from nanograd_gpt.errors import RunError
from nanograd_gpt.training.run_lock import run_lock

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DEVICE = Path("/dev/full")
needs_device = pytest.mark.skipif(not DEVICE.exists(), reason="/dev/full, a disk that is always full, is Linux's")


def full(*_: object, **__: object) -> None:
    raise FULL


@pytest.mark.parametrize("what", ["MetricsLog.write", "write_figures", "Run.save_best"])
def test_a_disk_that_is_full_during_training_is_named_with_the_way_to_resume(
    what: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"nanograd_gpt.cli.train.{what}", full)
    run = tmp_path / "run"
    assert fails(*train(run, data, "--max-steps", 4), code=1) == (
        f"{run} could not be written (the disk is full); free space there, then resume with: "
        f"nanograd-gpt train --resume {run}"
    )


@pytest.mark.parametrize("what", ["run.save_tokenizer", "checkpoint.fsync_tree"])
def test_a_disk_that_is_full_before_the_first_update_is_named(
    what: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"nanograd_gpt.training.{what}", full)
    message = fails(*train(tmp_path / "run", data, "--max-steps", 1), code=1)
    assert (
        message == f"{tmp_path / 'run'} could not be written (the disk is full); free space there, then run this again"
    )


@pytest.mark.parametrize("target", ["new.safetensors", "new"])
def test_a_disk_that_is_full_in_convert_is_named(
    target: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanograd_gpt.training.checkpoint.write_safetensors", full)
    monkeypatch.setattr("nanograd_gpt.weights.save.fsync_tree", full)
    message = fails("convert", trained, tmp_path / target, code=1)
    assert message.startswith(f"{tmp_path}/")
    assert target in message
    assert "could not be written (the disk is full); free space there" in message


def test_a_tokenizer_that_does_not_fit_beside_the_weights_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.convert.save_tokenizer", full)
    target = tmp_path / "new.safetensors"
    message = fails("convert", trained, target, code=1)
    assert message == f"{target} could not be written (the disk is full); free space there, then run this again"


def test_a_disk_that_is_full_in_plot_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.plot.write_figures", full)
    message = fails("plot", trained, code=1)
    assert message == f"{trained} could not be written (the disk is full); free space there, then run this again"


def test_a_resume_on_a_disk_without_room_is_not_told_of_an_option_that_it_refuses(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    nanograd(*train(run, data, "--max-steps", 2))
    left = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: left)
    message = fails("train", "--resume", run, "--max-steps", 4, code=1)
    assert message.startswith(f"training: checkpoints in {run} will take ")
    assert message.endswith(" bytes, its disk has 4,096 left; free space there")


@pytest.mark.parametrize("what", ["cut_samples", "recover_checkpoints"])
def test_a_disk_that_is_full_at_the_start_of_a_resume_is_named(
    what: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = tmp_path / "run", tmp_path / "run" / "a file"

    def full_there(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)

    nanograd(*train(run, data, "--max-steps", 2))
    monkeypatch.setattr(f"nanograd_gpt.cli.train.{what}", full_there)
    message = fails("train", "--resume", run, "--max-steps", 4, code=1)
    assert message.startswith(f"{file} could not be written (the disk is full); free space there")


def test_a_lock_that_does_not_fit_on_the_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = pytest.raises(RunError, match=r"\.lock could not be written \(the disk is full\); free space there")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with named, run_lock(tmp_path):
            pass
    with run_lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


@needs_device
@pytest.mark.parametrize("command", [["generate", "RUN", "--prompt", "the sun"], ["info", "RUN"]], ids=str)
def test_output_to_a_full_disk_ends_in_one_line(command: list[str], trained: Path) -> None:
    argv = [sys.executable, "-m", "nanograd_gpt", *(str(trained) if part == "RUN" else part for part in command)]
    with DEVICE.open("w") as out:
        done = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    message = complaint(Result(done.returncode, "", done.stderr), code=1)
    assert message == "the output could not be written (the disk is full); free space there"


@needs_device
def test_bench_to_a_full_disk_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.bench._measured", lambda *_: iter(()))
    message = fails("bench", "--out", DEVICE, code=1)
    assert message == f"{DEVICE} could not be written (the disk is full); free space there, then run this again"
