"""A run whose newest checkpoint is damaged, that a crash interrupted, or that two processes want to write."""

from __future__ import annotations

import signal
from pathlib import Path
from time import sleep

import pytest
from cli.commands import LONG, contents, fails, finished, nanograd, process, train, works

from nanograd_gpt.errors import InputError
from nanograd_gpt.optim import AdamW
from nanograd_gpt.training.checkpoint import save_checkpoint
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.sources import load_pretrained, pretrained_tokenizer


def test_damage_to_the_newest_checkpoint_is_noted_and_the_one_before_is_used(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--checkpoint-every", 2, "--epochs", 1))
    newest = run / "checkpoints" / "step_5"
    (newest / "model.safetensors").write_bytes(b"")
    note = f"note: checkpoint: {newest / 'model.safetensors'} is damaged: its SHA-256 differs; "
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
    for name in ("step_3", "step_5", "best"):
        (run / "checkpoints" / name).rename(tmp_path / name)
    printed = works("train", "--resume", run / "checkpoints" / "step_1")
    assert f"resuming from {run / 'checkpoints' / 'step_1'}" in printed
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (run / "checkpoints" / "step_5" / name).read_bytes() == (tmp_path / "step_5" / name).read_bytes()


def test_a_run_does_not_go_back_while_later_checkpoints_would_be_lost(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--checkpoint-every", 2, "--epochs", 1, "--keep", 3, "--lr", 0.01))
    before, command = contents(run), ["train", "--resume", run / "checkpoints" / "step_1"]
    for more in ([], ["--dry-run"], ["--max-steps", 4]):
        assert fails(*command, *more) == (
            f"--resume: {run} has checkpoints later than step_1, which would be replaced: step_3, step_5, best; resume "
            f"the newest with --resume {run}, or to go back, first move the later ones out of {run / 'checkpoints'}"
        )
    assert contents(run) == before
    for name in ("step_3", "step_5", "best"):  # damaged ones are lost already
        (run / "checkpoints" / name / "model.safetensors").write_bytes(b"")
    works(*command)


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=str)
def test_weights_alone_are_not_resumed_from(trained: Path, more: list[str]) -> None:
    message = fails("train", "--resume", trained / "checkpoints" / "best", *more)
    assert "holds weights without the optimizer's state; resume from a step_N" in message


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=str)
@pytest.mark.parametrize("folder", ["ckpt", "checkpoints/ckpt"])
def test_a_checkpoint_outside_a_run_is_not_resumed_but_loaded(
    trained: Path, tmp_path: Path, folder: str, more: list[str]
) -> None:
    """One of the library's save_checkpoint: it has neither settings nor a tokenizer."""
    model = load_pretrained(trained)
    path = save_checkpoint(tmp_path / folder, model, AdamW(model.parameters()))
    before = contents(tmp_path)
    message = fails("train", "--resume", path, *more)
    assert message.startswith(f"--resume: {path} is a checkpoint, not a run")
    assert f"--init-from {path}" in message
    for command in (["generate", path], ["evaluate", path, "--data", "story"], ["train", "--init-from", path]):
        assert fails(*command) == f"tokenizer: {path} has no tokenizer beside its weights; give one with --tokenizer"
    with pytest.raises(InputError, match="has no tokenizer beside its weights; load it with get_tokenizer"):
        pretrained_tokenizer(path)
    assert contents(tmp_path) == before
    works("generate", path, "--tokenizer", trained, "--prompt", "the", "--max-new-tokens", 3)
    works("info", path)


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


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"], ids=str)
def test_a_tokenizer_that_is_lost_or_damaged_is_made_again(tmp_path: Path, data: Path, content: bytes | None) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    for directory, steps in ((run, 3), (alone, 5)):
        works(*train(directory, data, "--max-steps", steps))
    path = run / "tokenizer.json"
    saved = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    result = nanograd("train", "--resume", run, "--max-steps", 5)
    assert result.code == 0, result
    assert result.err == f"note: {path} is lost or damaged; it is made again as the run made it\n"
    assert path.read_bytes() == saved
    name = Path("checkpoints", "step_4", "model.safetensors")
    assert (run / name).read_bytes() == (alone / name).read_bytes()


def test_a_tokenizer_that_cannot_be_made_again_is_asked_for(tmp_path: Path, data: Path, trained: Path) -> None:
    run, own = tmp_path / "run", tmp_path / "own.json"
    works(*train(tmp_path / "another", data, "--n-merges", 30, "--max-steps", 1))
    tokenizer, another = ((directory / "tokenizer.json").read_bytes() for directory in (trained, tmp_path / "another"))
    own.write_bytes(tokenizer)
    assert nanograd(*train(run, data, "--max-steps", 2, "--tokenizer", own)).code == 0
    (run / "tokenizer.json").unlink()
    for content in (None, another):
        own.unlink(missing_ok=True)
        if content is not None:
            own.write_bytes(content)
        assert "tokenizer" in fails("train", "--resume", run, "--max-steps", 4)
    own.write_bytes(tokenizer)
    assert nanograd("train", "--resume", run, "--max-steps", 4).code == 0
