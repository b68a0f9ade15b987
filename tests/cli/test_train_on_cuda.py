"""nanograd-gpt train --device cuda, on the stand-in for CuPy and the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import nanograd, train, works
from cusim.checks import needs_compiler
from standin.cupy_standin import installed

from nanograd_gpt.backend.precision import precision
from nanograd_gpt.cli.step_log import StepLog
from nanograd_gpt.training.metrics import read_metrics

pytestmark = [pytest.mark.slow, needs_compiler]


def losses(run: Path) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in read_metrics(run / "metrics.jsonl").steps]


def test_a_run_on_a_gpu_stopped_and_resumed_has_the_losses_of_one_on_the_cpu(tmp_path: Path, data: Path) -> None:
    more: list[Any] = ["--epochs", 4, "--max-norm", 0.5]
    works(*train(tmp_path / "cpu", data, *more, "--max-steps", 7))
    with installed():
        works(*train(tmp_path / "cuda", data, *more, "--max-steps", 4, "--device", "cuda"))
        works("train", "--resume", tmp_path / "cuda", "--max-steps", 7, "--device", "cuda")
    expected, got = losses(tmp_path / "cpu"), losses(tmp_path / "cuda")
    assert [step for step, _ in got] == [step for step, _ in expected]
    np.testing.assert_allclose([loss for _, loss in got], [loss for _, loss in expected], rtol=1e-4)


def test_losses_are_read_sixteen_at_a_time_and_every_one_is_written(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, flush = [], StepLog.flush

    def noted(log: StepLog) -> None:
        read.append(len(log.unread))
        flush(log)

    monkeypatch.setattr(StepLog, "flush", noted)
    with installed():
        rarely = ["--eval-freq", 1000, "--sample-every", 100]
        works(*train(tmp_path / "run", data, "--epochs", 9, *rarely, "--max-steps", 20, "--device", "cuda"))
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(20))
    assert sum(read) == 20
    assert read[0] == 1  # with the first evaluation
    assert max(read) == 16


def test_a_run_in_bf16_is_near_the_cpus_and_its_checkpoint_is_read_there(tmp_path: Path, data: Path) -> None:
    more: list[Any] = ["--max-steps", 3, "--batch-size", 4, "--train-ratio", 0.5]  # products of 64 rows
    works(*train(tmp_path / "cpu", data, *more))
    with installed() as standin:
        works(*train(tmp_path / "cuda", data, *more, "--device", "cuda", "--precision", "bf16"))
        assert any("bf16" in name for name in standin.launches)
    expected, got = losses(tmp_path / "cpu"), losses(tmp_path / "cuda")
    np.testing.assert_allclose([loss for _, loss in got], [loss for _, loss in expected], rtol=0.01)
    assert [loss for _, loss in got] != [loss for _, loss in expected]
    works("evaluate", tmp_path / "cuda")  # in fp32, on the CPU
    assert precision() == "fp32"


def test_where_cupy_is_installed_and_the_cpu_is_used_a_note_says_why(tmp_path: Path, data: Path) -> None:
    run = [*train(tmp_path / "run", data), "--dry-run"]
    with installed(available=False):
        by_itself, asked_for = nanograd(*run), nanograd(*run, "--device", "cpu")
    assert by_itself.err == "note: the CPU is used: CuPy is installed but finds no GPU (nvidia-smi -L lists them)\n"
    assert asked_for.err == nanograd(*run).err == ""


def test_updates_are_replayed_unless_graph_is_off(tmp_path: Path, data: Path) -> None:
    more = ["--max-steps", 4, "--eval-freq", 1000, "--sample-every", 100, "--device", "cuda"]
    with installed() as standin:
        works(*train(tmp_path / "auto", data, *more))
        assert "graph" in standin.launches
        standin.launches.clear()
        works(*train(tmp_path / "off", data, *more, "--graph", "off"))
        assert "graph" not in standin.launches
    assert losses(tmp_path / "auto") == losses(tmp_path / "off")
