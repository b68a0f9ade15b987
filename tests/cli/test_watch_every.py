"""nanograd-gpt train --watch-every: what each layer does is measured, costs a run no bit, and survives a resume."""

from __future__ import annotations

from pathlib import Path

from cli.commands import fails, nanograd, train, without_times, works

from nanograd_gpt.training.config import from_toml
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run_directory import SNAPSHOTS

WEIGHTS = "model.safetensors", "optimizer.safetensors"


def test_updates_are_measured_and_0_measures_none_with_the_same_bits(tmp_path: Path, data: Path) -> None:
    watched, other = tmp_path / "watched", tmp_path / "other"
    works(*train(watched, data, "--max-steps", 7, "--drop-rate", 0.2, "--watch-every", 3))
    works(*train(other, data, "--max-steps", 7, "--drop-rate", 0.2, "--watch-every", 0))
    measured, plain = (read_metrics(run / "metrics.jsonl") for run in (watched, other))
    assert [event["step"] for event in measured.layers] == [0, 3, 6]
    assert plain.layers == []
    assert without_times(measured.steps) == without_times(plain.steps)
    assert measured.evaluations == plain.evaluations
    for name in WEIGHTS:
        one, two = ((run / "checkpoints" / "step_6" / name).read_bytes() for run in (watched, other))
        assert one == two
    assert (watched / SNAPSHOTS).read_bytes() == (other / SNAPSHOTS).read_bytes()


def test_a_resumed_run_measures_and_shows_what_one_that_was_not_stopped_does(tmp_path: Path, data: Path) -> None:
    course = ["--watch-every", 2, "--drop-rate", 0.2]
    works(*train(tmp_path / "whole", data, "--max-steps", 9, *course))
    run = tmp_path / "cut"
    works(*train(run, data, "--max-steps", 9, "--checkpoint-every", 4, "--keep", 9, *course))
    for step in (7, 8):  # as if it had been killed after update 8, whose events are there
        checkpoint = run / "checkpoints" / f"step_{step}"
        if checkpoint.exists():
            checkpoint.rename(tmp_path / checkpoint.name)
    works("train", "--resume", run)
    whole, cut = (read_metrics(path / "metrics.jsonl") for path in (tmp_path / "whole", run))
    assert [event["step"] for event in cut.layers] == [0, 2, 4, 6, 8]
    assert cut.layers == whole.layers
    assert (run / SNAPSHOTS).read_bytes() == (tmp_path / "whole" / SNAPSHOTS).read_bytes()


def test_it_can_be_changed_in_the_middle_of_a_run(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--max-steps", 3))
    further = "train", "--resume", run, "--max-steps", 6, "--watch-every", 1
    assert "--watch-every is fixed by the run" in fails(*further)
    assert nanograd(*further, "--allow-mismatch").code == 0
    assert [event["step"] for event in read_metrics(run / "metrics.jsonl").layers] == [0, 3, 4, 5]
    assert from_toml(run / "config.toml")["watch_every"] == 1


def test_a_negative_number_is_refused(tmp_path: Path, data: Path) -> None:
    assert fails(*train(tmp_path / "run", data, "--watch-every", -1)) == (
        "--watch-every: -1 is not allowed; choose a number >= 0"
    )


def test_damaged_snapshots_are_replaced_when_a_run_goes_on(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--max-steps", 3))
    (run / SNAPSHOTS).write_text("{", encoding="utf-8")
    works("train", "--resume", run, "--max-steps", 6)
    assert '"step": 5' in (run / SNAPSHOTS).read_text(encoding="utf-8")


def test_a_run_whose_config_toml_is_older_than_the_setting_goes_on(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(run, data, "--max-steps", 3))
    (run / SNAPSHOTS).unlink()
    file = run / "config.toml"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("watch_every")), encoding="utf-8")
    works("train", "--resume", run, "--max-steps", 6)
    assert from_toml(file)["watch_every"] == 20
