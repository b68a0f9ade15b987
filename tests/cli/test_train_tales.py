"""nanograd-gpt train --data tales."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commands import works

from nanograd_gpt.training.config import from_toml, preset
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.viz.run_files import read_run

SIZES = ["--emb-dim", 16, "--n-heads", 2, "--n-layers", 1, "--warmup-steps", 2, "--eval-freq", 2, "--eval-iter", 1]
SMALL = [*SIZES, "--max-steps", 5]


@pytest.mark.draws
def test_a_run_on_tales_judges_what_the_model_writes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    printed = works("train", "--data", "tales", "--out", run, *SMALL).splitlines()
    metrics = read_metrics(run / "metrics.jsonl")
    assert [event["step"] for event in metrics.tales] == [event["step"] for event in metrics.evaluations] == [0, 2, 4]
    assert all(event["tales"] == 50 and event["grammatical"] <= event["sentences"] for event in metrics.tales)
    (line,) = [line for line in printed if line.startswith("50 tales by the model: ")]
    assert f"{metrics.tales[-1]['grammatical']:,} of {metrics.tales[-1]['sentences']:,}" in line
    assert printed[1].startswith("data        tales: 1,")
    assert {"tales.png", "tales.svg"} <= {path.name for path in (run / "figures").iterdir()}
    assert "<h2>Tales by the model</h2>" in (run / "report.html").read_text(encoding="utf-8")
    assert read_run(run).damage == ""


def test_a_resumed_run_scores_the_same_tales_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    new = ["train", "--data", "tales", *SIZES, "--schedule", "flat", "--warmup-steps", 0, "--min-lr", 0]
    works(*new, "--max-steps", 5, "--out", tmp_path / "whole")
    works(*new, "--max-steps", 3, "--out", tmp_path / "cut")
    assert "50 tales by the model" in works("train", "--resume", tmp_path / "cut", "--max-steps", 5)
    whole, cut = (read_metrics(tmp_path / name / "metrics.jsonl").tales for name in ("whole", "cut"))
    assert [event["step"] for event in cut] == [0, 2, 4]
    assert cut == whole


def test_the_text_chooses_the_preset_and_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = works("train", "--data", "tales", "--dry-run")
    assert "directory   runs/tales" in printed
    sizes = preset("tales").model
    assert f"{sizes.n_layers} layers, {sizes.emb_dim} channels" in printed
    assert f"vocabulary {sizes.vocab_size}" in printed
    (tmp_path / "settings.toml").write_text('data = "tales"\n', encoding="utf-8")
    assert "directory   runs/tales" in works("train", "--config", tmp_path / "settings.toml", "--dry-run")
    assert "4 layers, 160 channels" in works("train", "--data", "tales", "--preset", "tiny", "--dry-run")
    assert "4 layers, 160 channels" in works("train", "--data", "story", "--dry-run")


def test_a_run_on_another_text_writes_no_tales(tmp_path: Path) -> None:
    printed = works("train", "--data", "story", "--out", tmp_path / "run", *SMALL)
    assert "tales" not in printed
    assert read_metrics(tmp_path / "run" / "metrics.jsonl").tales == []
    assert from_toml(tmp_path / "run" / "config.toml")["data"] == "story"
