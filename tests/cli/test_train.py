"""nanograd-gpt train: files, output and errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import COURSE, SIZES, Result, complaint, fails, finished, nanograd, process, train, works

from nanograd_gpt.backend.cpu.threads import n_threads, set_threads
from nanograd_gpt.bench.machine import physical_memory
from nanograd_gpt.cli import header
from nanograd_gpt.errors import RunError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training import loop
from nanograd_gpt.training.checkpoint import load_model
from nanograd_gpt.training.config import from_toml, preset
from nanograd_gpt.training.finite import not_finite_in_checkpoint
from nanograd_gpt.training.loop import StepResult
from nanograd_gpt.training.metrics import MetricsLog, read_metrics
from nanograd_gpt.training.run import Run

EVALUATION = re.compile(r"Ep (\d+) \(Step (\d{6,})\): Train loss (\d+\.\d{3}), Val loss (\d+\.\d{3})")


def printed_by(trained: Path) -> list[str]:
    return trained.with_name("printed.txt").read_text(encoding="utf-8").splitlines()


# --- files


def test_a_run_writes_its_settings_metrics_samples_figures_report_and_checkpoints(trained: Path) -> None:
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    named = {"config.toml", "environment.json", "tokenizer.json", "metrics.jsonl", "samples.txt", "report.html"}
    named |= {"surprise.json", "snapshots.json"}
    drawn = "loss", "perplexity", "training", "layers"
    figures = {f"figures/{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    parts = ("model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json")
    checkpoints = {f"checkpoints/step_{n}/{part}" for n in (7, 9) for part in parts}
    best = {f"checkpoints/best/{part}" for part in parts if part != "optimizer.safetensors"}
    assert files == {".lock"} | named | figures | checkpoints | best
    assert all((trained / name).stat().st_size > 20 for name in files - {".lock"})


def test_figures_are_pictures_and_the_report_is_one_page(trained: Path) -> None:
    for path in (trained / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for path in (trained / "figures").glob("*.svg"):
        assert "<svg" in path.read_text(encoding="utf-8")
    report = (trained / "report.html").read_text(encoding="utf-8")
    assert "<html" in report
    assert "Which words surprise the model" in report


def test_config_toml_holds_all_settings_as_they_were_given(trained: Path, data: Path) -> None:
    config = preset("tiny").replace(from_toml(trained / "config.toml"))
    assert (config.model.emb_dim, config.model.vocab_size) == (16, 256 + 50 + 1)
    assert (config.data.data, config.data.test_ratio) == (str(data), 0.1)
    assert (config.training.epochs, config.training.schedule) == (2, "flat")


def test_environment_json_names_versions_and_threads(trained: Path) -> None:
    environment = json.loads((trained / "environment.json").read_text(encoding="utf-8"))
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"nanograd_gpt", "numpy", "cupy", "blas", "cpus"} <= environment.keys()


def test_metrics_hold_every_update_the_evaluations_and_a_sample_an_epoch(trained: Path) -> None:
    metrics = read_metrics(trained / "metrics.jsonl")
    assert [event["step"] for event in metrics.steps] == [*range(10)]
    assert [event["tokens"] for event in metrics.steps] == [32 * (n + 1) for n in range(10)]
    assert [event["epoch"] for event in metrics.steps] == [1] * 5 + [2] * 5
    assert [event["step"] for event in metrics.evaluations] == [0, 3, 6, 9]
    assert [(event["epoch"], event["step"]) for event in metrics.samples] == [(1, 4), (2, 9)]
    assert metrics.end is not None
    assert metrics.end["steps"] == 10
    assert all(event["grad_norm"] > 0 for event in metrics.steps)


def test_samples_txt_holds_the_samples_that_were_printed(trained: Path) -> None:
    samples = [event["text"] for event in read_metrics(trained / "metrics.jsonl").samples]
    lines = (trained / "samples.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"Epoch {n} (step {5 * n - 1}): {text}" for n, text in enumerate(samples, start=1)]
    assert all(sample.startswith("Every effort moves you") for sample in samples)
    assert set(samples) < set(printed_by(trained))


# --- output


def test_the_header_tells_model_data_updates_needs_and_directory(trained: Path, data: Path) -> None:
    header = printed_by(trained)[:5]
    for line, part in zip(
        header,
        (
            "model       1 layer, 16 channels, 2 heads, context 16: 13,344 parameters",
            f"data        {data}: 722 characters, vocabulary 307; 5 batches of 2 to train on, 1 to validate",
            "training    10 updates in 2 epochs on ",
            "expected    ",
            f"directory   {trained}",
        ),
        strict=True,
    ):
        assert line.startswith(part)
    assert re.fullmatch(r"expected    [\d.]+ [MG]iB of memory, about \d+ (s|min)", header[3])  # of this process too


def test_evaluations_are_printed_in_the_books_format(trained: Path) -> None:
    found = [match.groups() for line in printed_by(trained) if (match := EVALUATION.fullmatch(line))]
    assert found == [
        (str(e["epoch"]), f"{e['step']:06d}", f"{e['train_loss']:.3f}", f"{e['val_loss']:.3f}")
        for e in read_metrics(trained / "metrics.jsonl").evaluations
    ]


def test_every_line_is_of_the_header_an_evaluation_a_sample_or_a_file_written(trained: Path) -> None:
    rest = [line for line in printed_by(trained)[5:] if not EVALUATION.fullmatch(line)]
    assert [line.startswith("Every effort moves you") for line in rest[:2]] == [True, True]
    files = [*(trained / "figures").iterdir(), trained / "report.html"]
    assert sorted(rest[2:]) == sorted(f"wrote {path}" for path in files)


def test_where_no_terminal_listens_there_is_no_bar_and_no_escape_code(trained: Path) -> None:
    text = trained.with_name("printed.txt").read_text(encoding="utf-8")  # works() saw that stderr is empty
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


# --- options


def test_a_dry_run_prints_the_header_and_writes_nothing(tmp_path: Path, data: Path) -> None:
    printed = works(*train(tmp_path / "run", data, "--dry-run"))
    assert len(printed.splitlines()) == 5
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_a_large_models_needs_without_having_them(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object, **settings: object) -> None:
        raise MemoryError("a model was built")

    monkeypatch.setattr("nanograd_gpt.training.run.GPTModel", no_memory)
    options = ["--preset", "gpt2-1558m", "--context-length", 16, "--tokenizer", "own"]
    result = nanograd("train", "--dry-run", "--out", tmp_path / "run", "--data", data, *options)
    assert result.code == 0, result  # with a note if the disk has less room than its checkpoints need
    assert re.search(r"expected +\d+\.\d GiB", result.out)


def test_options_come_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("emb_dim = 28\nn_layers = 3\n[data]\nn_merges = 7\n", encoding="utf-8")
    options = ["--config", tmp_path / "settings.toml", "--n-layers", 2]
    printed = works("train", "--dry-run", "--out", tmp_path / "run", *options)
    assert "2 layers, 28 channels, 4 heads, context 66" in printed
    assert "data        tales" in printed
    assert "vocabulary 264;" in printed
    assert "batches of 8 to train on" in printed


def test_a_file_and_options_need_to_fit_together_only_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("emb_dim = 25", encoding="utf-8")  # not divisible by 4 heads
    options = ["--config", tmp_path / "settings.toml", "--n-heads", 5]
    assert "25 channels, 5 heads" in works("train", "--dry-run", "--out", tmp_path / "run", *options)


def test_a_run_can_be_done_again_from_its_config_toml(tmp_path: Path, trained: Path) -> None:
    printed = works("train", "--config", trained / "config.toml", "--out", tmp_path / "again", "--max-steps", 4)
    assert EVALUATION.findall(printed) == EVALUATION.findall("\n".join(printed_by(trained)))[:2]


def test_without_out_runs_are_numbered_in_runs(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    printed = works("train", "--data", data, *SIZES, *COURSE, "--dry-run")
    assert "directory   runs/tiny-2" in printed.splitlines()


def test_an_empty_directory_is_not_taken(tmp_path: Path, data: Path) -> None:
    works(*train(tmp_path, data, "--dry-run"))


# --- failures of the run itself: exit code 1


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--max-norm", 0], "a lower --lr, such as 0.001, or --max-norm 1, or --schedule cosine with --warmup-steps"),
        (["--max-norm", 1], "a lower --lr, such as 0.001, or --schedule cosine with --warmup-steps"),
        (
            ["--max-norm", 1, "--schedule", "cosine", "--warmup-steps", 2],
            "a lower --lr, such as 0.001, or --warmup-steps above 2",
        ),
        (
            ["--max-norm", 0, "--schedule", "cosine", "--warmup-steps", 1000, "--decay-steps", 2000],
            "a lower --lr, such as 0.001, or --max-norm 1",
        ),
    ],
    ids=str,
)
def test_a_diverged_loss_ends_the_run_with_advice_that_is_not_followed_yet(
    tmp_path: Path, data: Path, options: list[object], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(run: Run, *_: object) -> Iterator[StepResult]:
        yield StepResult(1, 0, 32, np.array(np.nan), 0.1, None, None, False)

    monkeypatch.setattr(Run, "steps", steps)
    message = fails(*train(tmp_path / "run", data, "--lr", "1e9", *options), code=3)
    assert message == f"training: the loss is nan at step 0; start a new run with {advice}"


def test_a_run_that_takes_more_memory_than_there_is_says_so(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (physical_memory() or 1 << 40) > 1 << 27
    monkeypatch.setattr(header, "physical_memory", lambda: 1 << 20)
    result = nanograd(*train(tmp_path / "run", data, "--dry-run"))
    assert result.code == 0
    assert result.err == (
        "note: this machine has 1 MiB of memory, less than the run is expected to take; choose a smaller --batch-size, "
        "--context-length or model\n"
    )
    monkeypatch.setattr(header, "physical_memory", lambda: None)  # not told by the system
    works(*train(tmp_path / "run", data, "--dry-run"))


def test_a_loss_that_diverges_ends_the_run(tmp_path: Path, data: Path) -> None:
    running = process(*train(tmp_path / "run", data, "--lr", "1e9", "--max-norm", 0))
    assert re.search(
        r"the loss is (nan|inf) at step \d+( \(.* is nan or infinite(, and [\d,]+ more arrays? (is|are))?\))?; "
        "start a new run with a lower --lr",
        complaint(finished(running), code=3),
    )


def diverging(run: Run) -> Iterator[StepResult]:
    """Updates with finite losses, after the second of which a weight is not finite."""
    for step in range(3):
        run.progress.global_step = step
        yield StepResult(1, step, 32, np.array(1.0), 0.1, None, None, False)
        if step == 1:
            run.model.final_norm.scale.data[0] = np.inf


def test_weights_that_are_not_finite_are_not_saved_and_the_last_good_checkpoint_is_named(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "steps", lambda run, replay_note: diverging(run))
    message = fails(*train(tmp_path / "run", data, "--checkpoint-every", 2), code=3)
    kept = tmp_path / "run" / "checkpoints" / "step_1"
    why = "the weight final_norm.scale is nan or infinite, so no checkpoint is written"
    assert message == f"training: after step 2, {why}; the last one is {kept}"
    assert load_model(kept).final_norm.scale.data.max() == 1
    assert not (tmp_path / "run" / "checkpoints" / "step_2").exists()


def test_updates_that_are_not_finite_can_be_skipped_and_a_hundred_in_a_row_end_the_run(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipping = [*train(tmp_path / "run", data, "--on-nonfinite", "skip", "--eval-freq", 1000)]
    gradients, calls = loop._add_gradients, []

    def sometimes_nan(*args: Any) -> Any:
        calls.append(1)
        loss = gradients(*args)
        return loss * np.nan if len(calls) in (3, 4) or len(calls) > 20 else loss

    monkeypatch.setattr(loop, "_add_gradients", sometimes_nan)
    result = nanograd(*skipping, "--max-steps", 10)
    skipped = [line for line in result.err.splitlines() if "is skipped" in line]
    assert (result.code, len(skipped)) == (0, 2), result
    assert skipped[0] == "note: step 2 is skipped: its loss is nan"
    steps = [event["step"] for event in read_metrics(tmp_path / "run" / "metrics.jsonl").steps]
    assert steps == [0, 1, 4, 5, 6, 7, 8, 9]
    long = train(tmp_path / "long", data, "--on-nonfinite", "skip", "--eval-freq", 1000, "--epochs", 100)
    ended = nanograd(*long)
    assert ended.code == 3
    assert "training: the last 100 updates were skipped" in ended.err


def test_a_checkpoint_after_a_skipped_update_holds_the_weights_before_it(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, calls = loop._add_gradients, []

    def infinite_in_the_end(model: Any, optimizer: Any, *args: Any) -> Any:
        loss = gradients(model, optimizer, *args)
        calls.append(1)
        if len(calls) > 3:
            optimizer.flat.grad[::7] = np.inf
        return loss

    monkeypatch.setattr(loop, "_add_gradients", infinite_in_the_end)
    run, every = tmp_path / "run", ["--on-nonfinite", "skip", "--checkpoint-every", 1, "--keep", 9]
    result = nanograd(*train(run, data, *every, "--max-steps", 5))
    assert result.code == 0, result
    assert result.err.splitlines() == [f"note: step {n} is skipped: its gradient is not finite" for n in (3, 4)]
    before, after = (load_model(run / "checkpoints" / f"step_{n}").state_dict() for n in (2, 4))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert "is complete" in works("train", "--resume", run)


@pytest.mark.parametrize(("bad", "more"), [(1, ""), (2, ", and 1 more array is"), (3, ", and 2 more arrays are")])
def test_arrays_that_are_not_finite_are_counted(bad: int, more: str) -> None:
    model = GPTModel({"vocab_size": 5, "context_length": 4, "emb_dim": 4, "n_heads": 1, "n_layers": 1})
    for _, parameter in [*model.named_parameters()][:bad]:
        parameter.data.reshape(-1)[0] = np.nan
    assert not_finite_in_checkpoint(model) == f"the weight tok_emb.weight is nan or infinite{more}"


def test_the_operation_that_diverges_is_named_on_demand(tmp_path: Path, data: Path) -> None:
    message = fails(*train(tmp_path / "run", data, "--lr", "1e30", "--max-norm", 0, "--detect-anomaly"), code=3)
    assert re.search(r"^\w+(\.backward)?: [\d,]+ of the [\d,]+ numbers of .* called at (gpt|nn)/\w+\.py:\d+$", message)


def test_a_directory_that_cannot_be_written_ends_the_run(data: Path) -> None:
    assert "/proc/run" in fails(*train(Path("/proc/run"), data, "--max-steps", 1), code=1)


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=str)
def test_a_directory_under_a_file_is_refused_before_the_header(data: Path, more: list[str]) -> None:
    result = nanograd(*train(data / "more" / "run", data, *more))
    assert complaint(result, 2) == (
        f"--out: {data / 'more' / 'run'} cannot be created, since {data} is a file; give another directory"
    )
    assert result.out == ""


def test_a_full_disk_ends_the_run_in_one_line(tmp_path: Path, data: Path) -> None:
    command = [sys.executable, "-m", "nanograd_gpt", *train(tmp_path / "run", data, "--max-steps", 1)]
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command]  # no file above 20 KiB
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    assert "File too large" in complaint(Result(done.returncode, done.stdout, done.stderr), code=1)


def test_a_run_that_fails_closes_its_metrics(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Watched(MetricsLog):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(self)

    def failing(*args: object) -> str:
        raise RunError("no sample")

    monkeypatch.setattr("nanograd_gpt.cli.train.MetricsLog", Watched)
    monkeypatch.setattr("nanograd_gpt.cli.train.sample_line", failing)
    assert fails(*train(tmp_path / "run", data, "--epochs", 1), code=1) == "no sample"
    closed = [log.file.closed for log in opened]
    opened.pop().close()
    assert closed == [True]


def test_the_number_of_threads_is_chosen_and_recorded(tmp_path: Path, data: Path) -> None:
    before = n_threads()
    works(*train(tmp_path / "run", data, "--max-steps", 1, "--threads", 3))
    assert n_threads() == 3
    set_threads(before)
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["threads"] == 3


# --- errors before the training starts


def test_a_second_command_does_not_touch_a_run_that_is_there(trained: Path, data: Path) -> None:
    before = (trained / "metrics.jsonl").read_bytes()
    message = fails(*train(trained, data, "--max-steps", 1))
    assert message == f"--out: {trained} exists already; give a new directory, or resume with --resume {trained}"
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_the_prompt_of_samples_is_looked_at_before_the_training(tmp_path: Path, data: Path) -> None:
    message = fails(*train(tmp_path / "run", data, "--epochs", 1, "--prompt", ""))
    assert message.startswith("--prompt: ")
    assert not (tmp_path / "run").exists()
