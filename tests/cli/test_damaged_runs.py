"""A run whose newest checkpoint is damaged, that a crash interrupted, or that two processes want to write."""

from __future__ import annotations

import signal
from pathlib import Path
from time import sleep

import pytest
from cli.commands import LONG, contents, fails, finished, nanograd, process, train, works

from nanograd_gpt.training.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("no_figures")


def test_damage_to_the_newest_checkpoint_is_noted_and_the_one_before_is_used(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--checkpoint-every", 2, "--epochs", 1))
    newest = run / "checkpoints" / "step_5"
    (newest / "model.safetensors").write_bytes(b"")
    note = f"note: checkpoint: {newest / 'model.safetensors'} is damaged: its SHA-256 differs; use an earlier one; "
    for command in (["train", "--resume", run], ["generate", run, "--prompt", "the"], ["info", run], ["evaluate", run]):
        result = nanograd(*command)
        assert result.code == 0, result
        assert result.err.startswith(note), result
        assert "is used\n" in result.err
        assert result.err.count("\n") == 1
        (newest / "model.safetensors").write_bytes(b"")
    works(*train(tmp_path / "whole", data, "--checkpoint-every", 2, "--epochs", 1))
    nanograd("train", "--resume", run)
    whole = tmp_path / "whole" / "checkpoints" / "step_5" / "model.safetensors"
    assert (newest / "model.safetensors").read_bytes() == whole.read_bytes()


def test_a_run_goes_on_from_the_checkpoint_that_is_named(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--checkpoint-every", 2, "--epochs", 1, "--keep", 3))
    before = contents(run / "checkpoints" / "step_5")
    printed = works("train", "--resume", run / "checkpoints" / "step_1")
    assert f"resuming from {run / 'checkpoints' / 'step_1'}" in printed
    assert contents(run / "checkpoints" / "step_5") == before
    message = fails("train", "--resume", run / "checkpoints" / "best")
    assert "holds weights without the optimizer's state; resume from a step_N" in message


@pytest.mark.slow
def test_of_two_runs_started_in_one_directory_one_is_refused_and_the_other_is_whole(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    both = [process(*train(run, data, "--max-steps", 30)) for _ in range(2)]
    results = sorted(finished(running) for running in both)
    assert [result.code for result in results] == [0, 2], results
    assert "is being written by process" in results[1].err or "exists already" in results[1].err
    assert len(read_metrics(run / "metrics.jsonl").steps) == 30
    works("generate", run, "--prompt", "the")


@pytest.mark.slow
def test_two_runs_started_without_a_directory_get_one_each(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [*train(tmp_path, data, "--max-steps", 3)]
    del argv[1:3]  # --out
    both = [process(*argv) for _ in range(2)]
    assert [finished(running).code for running in both] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny-2"]


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_not_resumed_but_read(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    running = process(*train(run, data, *LONG))
    while not (run / "metrics.jsonl").exists():
        assert running.poll() is None, running.communicate()
        sleep(0.01)
    message = fails("train", "--resume", run)
    assert message.startswith(f"run: {run} is being written by process {running.pid}; wait for its end")
    works("generate", run, "--prompt", "the")
    running.send_signal(signal.SIGTERM)
    assert finished(running).code == 143


def test_what_a_crash_left_behind_is_cleaned_up_when_the_run_is_resumed(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--epochs", 1))
    checkpoints = run / "checkpoints"
    (checkpoints / "step_5").rename(checkpoints / ".step_5.partial")
    (checkpoints / ".step_9.partial").mkdir()
    assert f"{run} is complete" in works("train", "--resume", run)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best", "start", "step_5"]
