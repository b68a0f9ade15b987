"""nanograd-gpt train --resume: a run continues as if it had not stopped, and with the same settings."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path
from time import sleep

import pytest
from cli.commands import (
    COSINE,
    complaint,
    contents,
    fails,
    finished,
    interrupted,
    nanograd,
    process,
    rate_line,
    train,
    without_times,
    works,
)

from nanograd_gpt.errors import RunError
from nanograd_gpt.training.checkpoint import read_state
from nanograd_gpt.training.config import from_toml
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.viz.curves import evaluation_curves


def test_a_second_ctrl_c_names_the_way_to_go_on(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_at_once(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanograd_gpt.cli.train.Run.steps", interrupted_at_once)
    assert fails(*train(tmp_path / "run", data), code=130) == (
        f"interrupted; go on from the last checkpoint with: nanograd-gpt train --resume {tmp_path / 'run'}"
    )


def test_a_setting_that_a_run_has_already_is_no_change(trained: Path) -> None:
    works("train", "--resume", trained, "--seed", 123, "--emb-dim", 16, "--dry-run")


def test_a_finished_run_goes_on_for_more_epochs(tmp_path: Path, data: Path) -> None:
    works(*train(tmp_path / "part", data, "--epochs", 1))
    works("train", "--resume", tmp_path / "part", "--epochs", 2)
    works(*train(tmp_path / "whole", data, "--epochs", 2))
    part, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("part", "whole"))
    assert without_times(part.steps) == without_times(whole.steps)
    assert part.samples == whole.samples


def test_evaluations_of_a_resumed_run_that_ends_within_an_epoch_are_where_they_were_measured(
    tmp_path: Path, data: Path
) -> None:
    run, sizes = tmp_path / "run", ["--train-ratio", 0.8, "--test-ratio", 0.1]  # 5 updates an epoch
    works(*train(run, data, *sizes, "--max-steps", 4))
    works("train", "--resume", run, "--max-steps", 13)
    metrics = read_metrics(run / "metrics.jsonl")
    assert [step["epoch"] for step in metrics.steps] == [1] * 5 + [2] * 5 + [3] * 3
    assert evaluation_curves(metrics).epochs == pytest.approx([0.2, 0.8, 1.4, 2.0, 2.6])


@pytest.mark.parametrize(
    ("length", "asked", "further"),
    [
        (["--epochs", 2], [], "--epochs 4"),
        (["--epochs", 2], ["--epochs", 2], "--epochs 4"),
        (["--epochs", 9, "--max-steps", 3], [], "--max-steps 6"),
        (["--epochs", 1, "--max-steps", 6], ["--epochs", 3], "--max-steps 12 --epochs 2"),
        (["--epochs", 1], ["--max-steps", 200], "--epochs 2"),
    ],
    ids=str,
)
def test_a_run_that_is_complete_says_so_and_how_to_train_further(
    tmp_path: Path, data: Path, length: list[object], asked: list[object], further: str
) -> None:
    run = tmp_path / "run"
    works(*train(run, data, *length))
    before, done = contents(run), len(read_metrics(run / "metrics.jsonl").steps)
    result = nanograd("train", "--resume", run, *asked)
    assert result.out == (
        f"{run} is complete, with {done} updates; to train further, for example: "
        f"nanograd-gpt train --resume {run} {further}\n"
    )
    assert result.code == 0
    assert result.err.count("the run is complete all the same, and nothing is changed") == bool(asked)
    assert contents(run) == before
    works(*further_command(run, further))
    assert len(read_metrics(run / "metrics.jsonl").steps) > done


def further_command(run: Path, options: str) -> list[str]:
    return ["train", "--resume", str(run), *options.split()]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--epochs", 1], "epochs = 1 means 6 updates, but {run} has done 12; give more, or leave it out"),
        (["--max-steps", 3], "max_steps = 3 means 3 updates, but {run} has done 12; give more, or leave it out"),
    ],
    ids=str,
)
def test_a_length_that_is_shorter_than_what_is_done_is_refused(
    tmp_path: Path, data: Path, option: list[object], message: str
) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--epochs", 2))
    before = contents(run)
    assert fails("train", "--resume", run, *option) == f"--resume: {message.format(run=run)}"
    assert contents(run) == before


@pytest.mark.slow
def test_a_length_given_to_a_resumed_run_is_what_a_second_resume_goes_on_to(tmp_path: Path, data: Path) -> None:
    """Stopped by Ctrl-C, it says how to resume; that command alone must finish the longer run."""
    run = tmp_path / "run"
    works(*train(run, data, "--epochs", 1, "--drop-rate", 0.2))
    running = process("train", "--resume", run, "--epochs", 100_000)
    while len(read_metrics(run / "metrics.jsonl").steps) < 10:
        assert running.poll() is None, running.communicate()
        sleep(0.01)
    running.send_signal(signal.SIGINT)
    result = finished(running)
    assert result.code == 130, result
    assert from_toml(run / "config.toml")["epochs"] == 100_000
    command = result.out.splitlines()[-1].split("nanograd-gpt ")[1].split()
    done = len(read_metrics(run / "metrics.jsonl").steps)
    works(*command, "--max-steps", done + 1)
    assert len(read_metrics(run / "metrics.jsonl").steps) == done + 1


def test_the_header_of_a_resumed_run_counts_what_is_left(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--epochs", 1))
    first = works("train", "--resume", run, "--epochs", 3, "--dry-run").splitlines()
    assert first[2] == "training    12 of 18 updates left in 3 epochs on cpu, seed 123"


# --- before the first checkpoint, and the best


def test_a_run_that_dies_before_its_first_update_can_be_resumed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise RunError("out of luck")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("nanograd_gpt.cli.train.Run.steps", die)
        assert fails(*train(run, data), code=1) == "out of luck"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["start"]
    assert fails(*train(run, data)) == (
        f"--out: {run} exists already; give a new directory, or resume with --resume {run}"
    )
    works("train", "--resume", run)
    works(*train(tmp_path / "whole", data))
    part, whole = (read_metrics(path / "metrics.jsonl") for path in (run, tmp_path / "whole"))
    assert without_times(part.steps) == without_times(whole.steps)


def test_a_directory_without_a_checkpoint_is_not_offered_for_resuming(tmp_path: Path, data: Path) -> None:
    (tmp_path / "file.txt").write_text("mine", encoding="utf-8")
    assert fails(*train(tmp_path, data)) == f"--out: {tmp_path} exists already; give a new directory"


def test_the_weights_of_the_lowest_validation_loss_are_kept_and_named_at_the_end(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    printed = works(*train(run, data, "--epochs", 12, "--lr", 0.05, "--max-norm", 1)).splitlines()
    evaluations = read_metrics(run / "metrics.jsonl").evaluations
    lowest = min(evaluations, key=lambda event: event["val_loss"])
    assert lowest["val_loss"] < evaluations[-1]["val_loss"]  # or the test shows nothing
    command = f"nanograd-gpt generate {run / 'checkpoints' / 'best'}"
    assert (
        f"lowest validation loss {lowest['val_loss']:.3f} at step {lowest['step']} (epoch {lowest['epoch']}): {command}"
    ) in printed
    works(*command.split()[1:], "--prompt", "the", "--max-new-tokens", 3)
    losses = [
        float(works("evaluate", "--model", path, "--split", "val").split("loss")[1].split()[0])
        for path in (run / "checkpoints" / "best", run)
    ]
    assert losses[0] < losses[1]


def test_the_last_weights_are_evaluated_and_kept_as_the_best_if_they_are(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    printed = works(*train(run, data, "--max-steps", 5, "--lr", 0.01)).splitlines()
    evaluations = read_metrics(run / "metrics.jsonl").evaluations
    assert [event["step"] for event in evaluations] == [0, 3, 4]
    last = evaluations[-1]
    assert min(evaluations, key=lambda event: event["val_loss"]) is last  # or the test shows nothing
    assert f"Ep 1 (Step 000004): Train loss {last['train_loss']:.3f}, Val loss {last['val_loss']:.3f}" in printed
    best, newest = (run / "checkpoints" / name / "model.safetensors" for name in ("best", "step_4"))
    assert best.read_bytes() == newest.read_bytes()
    assert re.search(r"^best_step +4$", works("info", run), re.MULTILINE)
    works("train", "--resume", run, "--max-steps", 7)  # knows of it, so what is worse does not replace it
    later = [event for event in read_metrics(run / "metrics.jsonl").evaluations if event["step"] > 4]
    lowest = min([last, *later], key=lambda event: event["val_loss"])
    assert read_state(best.parent)["progress"]["best_step"] == lowest["step"]


@pytest.mark.parametrize("random", ["own", "torch"])
def test_the_evaluation_at_the_end_changes_no_bit_of_a_run_made_longer(tmp_path: Path, data: Path, random: str) -> None:
    course = ["--drop-rate", 0.2, "--random", random]
    works(*train(tmp_path / "part", data, *course, "--max-steps", 5))
    works("train", "--resume", tmp_path / "part", "--max-steps", 8)
    works(*train(tmp_path / "whole", data, *course, "--max-steps", 8))
    part, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("part", "whole"))
    assert without_times(part.steps) == without_times(whole.steps)
    assert [e for e in part.evaluations if e["step"] != 4] == whole.evaluations
    assert [e["step"] for e in part.evaluations] == ([0, 3, 4, 6, 7] if random == "own" else [0, 3, 6])
    for name in ("model.safetensors", "optimizer.safetensors"):
        parts = [tmp_path / run / "checkpoints" / "step_7" / name for run in ("part", "whole")]
        assert parts[0].read_bytes() == parts[1].read_bytes()


def test_a_run_that_ends_at_its_lowest_validation_loss_has_no_more_to_say(tmp_path: Path, data: Path) -> None:
    printed = works(*train(tmp_path / "run", data, "--max-steps", 1))
    assert "lowest" not in printed
    assert (tmp_path / "run" / "checkpoints" / "best" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_run_that_goes_on_as_it_began_says_nothing_of_its_rate(tmp_path: Path, data: Path) -> None:
    interrupted(tmp_path / "run", data, signal.SIGTERM)
    done = len(read_metrics(tmp_path / "run" / "metrics.jsonl").steps)
    assert rate_line(works("train", "--resume", tmp_path / "run", "--max-steps", done + 1)) is None
    works(*train(tmp_path / "cosine", data, *COSINE))
    config = (tmp_path / "cosine" / "config.toml").read_bytes()
    assert rate_line(works("train", "--resume", tmp_path / "cosine")) is None
    assert (tmp_path / "cosine" / "config.toml").read_bytes() == config


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--lr", "0.1"], "--lr"),
        (["--schedule", "cosine"], "--schedule"),
        (["--decay-steps", "100"], "--decay-steps"),  # the run's rate is flat
        (["--initial-lr", "0.1"], "--initial-lr"),
        (["--emb-dim", "32"], "--emb-dim"),
        (["--data", "story"], "--data"),
        (["--batch-size", "4", "--epochs", "3"], "--batch-size"),
        (["--seed", "124"], "--seed"),
        (["--init-from", "gpt2"], "--init-from"),
        (["--preset", "gpt2-124m"], "--preset"),
        (["--book"], "--book"),
        (["--out", "elsewhere"], "--out"),
        (["--config", "settings.toml"], "--config"),
    ],
    ids=str,
)
def test_a_run_does_not_go_on_with_other_settings(trained: Path, options: list[str], name: str) -> None:
    message = fails("train", "--resume", trained, *options)
    assert message.startswith(("--resume: ", "--decay-steps: 100 has no effect with the schedule 'flat'"))
    assert name in message


@pytest.mark.parametrize("what", ["missing", "empty", "text changed"])
def test_what_is_no_whole_run_does_not_go_on(tmp_path: Path, data: Path, what: str) -> None:
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_bytes(data.read_bytes())
    if what == "empty":
        run.mkdir()
    elif what != "missing":
        works(*train(run, text, "--max-steps", 1))
    if what == "text changed":
        text.write_text(text.read_text(encoding="utf-8").replace("sun", "son"), encoding="utf-8")
    assert str(text if what == "text changed" else run) in fails("train", "--resume", run)


def test_any_prompt_that_a_shell_can_pass_is_trained_with_and_resumed(tmp_path: Path, data: Path) -> None:
    prompt = "\udcff\x7f\x1b[1m\U0001f642"  # bytes of an argument that are not UTF-8 arrive as surrogates
    result = nanograd(*train(tmp_path / "run", data, "--epochs", 1, "--prompt", prompt))
    if result.code:  # or an error at the start
        assert complaint(result, 2).startswith("--prompt: ")
        assert not (tmp_path / "run").exists()
    else:
        works("train", "--resume", tmp_path / "run", "--epochs", 2)


def test_a_command_to_copy_is_quoted_for_the_shell(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "a run's; ü"
    works(*train(run, data, "--max-steps", 2))
    command = works("train", "--resume", run).partition("for example: ")[2]
    program, *argv = shlex.split(command)
    assert (program, argv[:3]) == ("nanograd-gpt", ["train", "--resume", str(run)])
    works(*argv)
    assert shlex.quote(str(run)) in fails(*train(run, data))
