"""nanograd-gpt train --resume: a run goes on as if it had never stopped, and only as what it was."""

from __future__ import annotations

import signal
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from cli.commands import complaint, fails, finished, nanograd, process, train, works

from nanograd_gpt.training.metrics import Event, read_metrics

LONG = ["--epochs", 100_000, "--drop-rate", 0.2, "--max-norm", 1]

pytestmark = pytest.mark.usefixtures("no_figures")


def without_times(events: list[Event]) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name != "seconds"} for event in events]


def interrupted(directory: Path, data: Path, number: signal.Signals) -> int:
    """Start a long run, and send it a signal after a few updates; returns how many it made."""
    running = process(*train(directory, data, *LONG))
    log, deadline = directory / "metrics.jsonl", monotonic() + 30
    while not (log.exists() and '"step": 4,' in log.read_text(encoding="utf-8")):
        assert running.poll() is None, running.communicate()
        assert monotonic() < deadline
        sleep(0.01)
    running.send_signal(number)
    result = finished(running)
    assert (result.code, result.err) == (130, "")
    last = result.out.splitlines()[-1]
    assert last == f"stopped by {number.name}; go on with: nanograd-gpt train --resume {directory}"
    return len(read_metrics(log).steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_run_stopped_by_a_signal_goes_on_to_the_metrics_of_one_that_was_not(
    tmp_path: Path, data: Path, number: signal.Signals
) -> None:
    done = interrupted(tmp_path / "stopped", data, number)
    until = ["--max-steps", done + 7]
    printed = works("train", "--resume", tmp_path / "stopped", *until)
    assert f"going on after step {done - 1}, from " in printed
    works(*train(tmp_path / "whole", data, *LONG, *until))
    stopped, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("stopped", "whole"))
    assert len(whole.steps) == done + 7
    assert without_times(stopped.steps) == without_times(whole.steps)
    assert stopped.evaluations == whole.evaluations
    assert stopped.samples == whole.samples
    for name in ("model.safetensors", "optimizer.safetensors"):
        parts = [tmp_path / run / "checkpoints" / f"step_{done + 6}" / name for run in ("stopped", "whole")]
        assert parts[0].read_bytes() == parts[1].read_bytes()


def test_a_finished_run_goes_on_for_more_epochs(tmp_path: Path, data: Path) -> None:
    works(*train(tmp_path / "part", data, "--epochs", 1))
    works("train", "--resume", tmp_path / "part", "--epochs", 2)
    works(*train(tmp_path / "whole", data, "--epochs", 2))
    part, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("part", "whole"))
    assert without_times(part.steps) == without_times(whole.steps)
    assert part.samples == whole.samples


@pytest.mark.parametrize("option", [["--max-steps", 3], ["--epochs", 1], []], ids=str)
def test_a_run_that_has_done_all_it_is_asked_for_does_nothing_more(
    tmp_path: Path, data: Path, option: list[object]
) -> None:
    works(*train(tmp_path / "run", data, "--epochs", 2, "--max-steps", 8))
    before = (tmp_path / "run" / "checkpoints" / "step_7" / "model.safetensors").read_bytes()
    works("train", "--resume", tmp_path / "run", *option)
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl").steps) == 8
    assert (tmp_path / "run" / "checkpoints" / "step_7" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--lr", "0.1"], "lr"),
        (["--emb-dim", "32"], "emb_dim"),
        (["--data", "story"], "data"),
        (["--batch-size", "4", "--epochs", "3"], "batch_size"),
        (["--seed", "123"], "seed"),
        (["--preset", "gpt2-124m"], "--preset"),
        (["--book"], "--book"),
        (["--out", "elsewhere"], "--out"),
        (["--config", "settings.toml"], "--config"),
    ],
    ids=str,
)
def test_a_run_does_not_go_on_with_other_settings(trained: Path, options: list[str], name: str) -> None:
    message = fails("train", "--resume", trained, *options)
    assert message.startswith("resume: ")
    assert name in message


@pytest.mark.parametrize("what", ["missing", "empty", "without config.toml", "without tokenizer.json", "text changed"])
def test_what_is_no_whole_run_does_not_go_on(tmp_path: Path, data: Path, what: str) -> None:
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_bytes(data.read_bytes())
    if what == "empty":
        run.mkdir()
    elif what != "missing":
        works(*train(run, text, "--max-steps", 1))
    if what == "text changed":
        text.write_text(text.read_text(encoding="utf-8").replace("sun", "son"), encoding="utf-8")
    elif what.startswith("without"):
        (run / what.split()[-1]).unlink()
    assert str(text if what == "text changed" else run) in fails("train", "--resume", run)


def test_any_prompt_that_a_shell_can_pass_is_trained_with_and_resumed(tmp_path: Path, data: Path) -> None:
    prompt = "\udcff\x7f\x1b[1m\U0001f642"  # an argument's bytes that are not UTF-8 reach us as surrogates
    result = nanograd(*train(tmp_path / "run", data, "--epochs", 1, "--prompt", prompt))
    if result.code:  # or a refusal beforehand
        assert complaint(result, 2).startswith("prompt: ")
        assert not (tmp_path / "run").exists()
    else:
        works("train", "--resume", tmp_path / "run", "--epochs", 2)
