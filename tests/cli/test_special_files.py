"""A FIFO, a device or a directory where a file is meant is refused at once, and counts have limits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cli.commands import fails, nanograd, train, works

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's")


def fifo(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("option", ["--config", "--data", "--tokenizer", "--init-from"])
def test_a_fifo_for_a_setting_is_refused(tmp_path: Path, data: Path, option: str) -> None:
    message = fails(*train(tmp_path / "run", data, option, fifo(tmp_path / "fifo")))
    assert "it is a FIFO (named pipe), not a regular file" in message


@pytest.mark.parametrize("command", ["generate", "evaluate", "info", "explain-next"])
@pytest.mark.parametrize("path", ["fifo", "/dev/zero"])
def test_a_special_file_for_a_model_is_refused(tmp_path: Path, command: str, path: str) -> None:
    fifo(tmp_path / "fifo")
    assert "not a regular file" in fails(command, tmp_path / path)


def test_a_fifo_for_a_prompt_is_refused(tmp_path: Path, trained: Path) -> None:
    message = fails("generate", trained, "--prompt-file", fifo(tmp_path / "fifo"))
    assert message.startswith("--prompt-file: ")
    assert "it is a FIFO" in message


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"])
def test_a_fifo_in_a_checkpoint_is_refused(tmp_path: Path, checkpoint: Path, name: str) -> None:
    copy = tmp_path / "checkpoints" / "step_9"
    shutil.copytree(checkpoint, copy)
    fifo(copy / name)
    fails("info", copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "metrics.jsonl"])
def test_a_fifo_in_a_run_is_refused(tmp_path: Path, trained: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    fifo(run / name)
    command = {"tokenizer.json": "generate", "metrics.jsonl": "plot"}[name]
    assert "it is a FIFO" in fails(command, run)


def test_a_fifo_for_a_runs_config_is_passed_over_since_the_checkpoint_has_its_settings(
    tmp_path: Path, trained: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    fifo(run / "config.toml")
    result = nanograd("evaluate", run)
    assert result.code == 0, result
    assert "it is a FIFO (named pipe), not a regular file); the checkpoint's settings are used" in result.err


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_fifo_in_hugging_faces_layout_is_refused_not_taken_for_missing(
    tmp_path: Path, trained: Path, name: str
) -> None:
    works("convert", trained, tmp_path / "theirs")
    fifo(tmp_path / "theirs" / name)
    assert "it is a FIFO" in fails("generate", tmp_path / "theirs")


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        (["--beams", 10**6], "(this model's, in 8 GiB)"),
        (["--beams", 10**30], "(this model's, in 8 GiB)"),
        (["--max-new-tokens", 10**400], "choose a number 0 .. 1000000000"),
        (["--num-samples", 10**9, "--temperature", 1], "choose a whole number 1 .. 1000000"),
    ],
    ids=["beams", "many beams", "tokens", "samples"],
)
def test_a_count_above_its_limit_is_refused_with_the_limit(trained: Path, options: list[object], allowed: str) -> None:
    message = fails("generate", trained, "--prompt", "the sun", *options)
    assert message.startswith(f"{options[0]}: ")
    assert message.endswith(allowed)


@pytest.mark.parametrize("option", ["--n-merges", "--epochs", "--eval-iter", "--batch-size", "--checkpoint-every"])
def test_a_setting_above_its_limit_is_refused_with_the_limit(tmp_path: Path, data: Path, option: str) -> None:
    message = fails(*train(tmp_path / "run", data, option, 10**30))
    assert message.startswith(f"{option}: 1000000000000000000000000000000 is not allowed; choose a number ")
