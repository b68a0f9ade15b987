"""Figures and report of a run whose files are damaged, or that was killed when it had hardly begun."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest
from cli.commands import nanograd, train, works


@pytest.mark.draws
def test_damage_to_the_metrics_is_one_note_and_everything_is_drawn(tmp_path: Path, trained: Path) -> None:
    run = tmp_path / "run"
    copytree(trained, run)
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    step = next(i for i, line in enumerate(lines) if i > 1 and b'"loss"' in line)
    damaged = [
        lines[0],
        b"\xff\n",
        lines[1][:30] + b"\n",
        b"[" * 9999 + b"\n",
        *lines[2:step],
        lines[step].replace(b"loss", b"lost"),
        *lines[step + 1 :],
    ]
    (run / "metrics.jsonl").write_bytes(b"".join(damaged))
    (run / "environment.json").write_text('{"python": ', encoding="utf-8")
    note = (
        f"note: {run / 'metrics.jsonl'} has 4 lines with damage, the first is line 2; {run / 'environment.json'} cannot"
    )
    for command in (["plot", run], ["train", "--resume", run, "--epochs", 3]):
        result = nanograd(*command)
        assert result.code == 0, result
        assert result.err.startswith(note), result
        assert result.err.endswith("; passed over\n")
        assert result.err.count("\n") == 1
        assert f"{run / 'report.html'}" in result.out


def test_a_run_killed_after_its_weights_were_evaluated_is_drawn(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    works(*train(tmp_path / "whole", data, "--max-steps", 1))
    start = (tmp_path / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0]
    loaded = {"event": "evaluation", "step": -1, "epoch": 0, "tokens": 0, "train_loss": 5.5, "val_loss": 5.75}
    run.mkdir()
    (run / "metrics.jsonl").write_text(f"{start}\n{json.dumps(loaded)}\n", encoding="utf-8")
    assert str(run / "report.html") in works("plot", run)
