"""nanograd-gpt train, stopped by a signal or a closed output, and its checkpoints by the clock."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import LONG, interrupted, nanograd, train, without_times, works

from nanograd_gpt.training.checkpoint import read_state
from nanograd_gpt.training.loop import StepResult
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import best_checkpoint

UNDER_NOHUP = """
import signal, sys
from nanograd_gpt.cli import main
from nanograd_gpt.training.run import Run

def hung_up(run, note, steps=Run.steps):
    for report in steps(run, note):
        signal.raise_signal(signal.SIGHUP)
        yield report

signal.signal(signal.SIGHUP, signal.SIG_IGN)
Run.steps = hung_up
sys.exit(main(sys.argv[1:]))
"""
STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_ctrl_c_on_a_terminal_says_what_happens_now_on_a_line_of_its_own(tmp_path: Path, data: Path) -> None:
    """The progress bar, which redraws its line, goes on below."""
    import termios  # not on Windows

    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, "-m", "nanograd_gpt", *train(tmp_path / "run", data, *LONG)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as running:
        os.close(end)
        shown = os.read(terminal, 1 << 16)
        while not re.search(rb"\| [1-9]\d*/", shown):  # an update has been made
            shown += os.read(terminal, 1 << 16)
        running.send_signal(signal.SIGINT)
        with suppress(OSError):  # how Linux says that the other end is closed
            while more := os.read(terminal, 1 << 16):
                shown += more
    os.close(terminal)
    assert running.returncode == 130
    line = "stopping after this update; press Ctrl-C again to stop at once, without a checkpoint"
    lines = [text.split("\r")[-1] for text in shown.decode().replace("\r\n", "\n").split("\n")]
    assert lines.count(line) == 1
    assert "step" in lines[lines.index(line) + 1]


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPPING, ids=str)
def test_a_run_stopped_by_a_signal_goes_on_to_the_metrics_of_one_that_was_not(
    tmp_path: Path, data: Path, number: signal.Signals
) -> None:
    done = interrupted(tmp_path / "stopped", data, number)
    until = ["--max-steps", done + 7]
    printed = works("train", "--resume", tmp_path / "stopped", *until)
    assert f"resuming from {tmp_path / 'stopped' / 'checkpoints' / f'step_{done - 1}'}" in printed
    works(*train(tmp_path / "whole", data, *LONG, *until))
    stopped, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("stopped", "whole"))
    assert len(whole.steps) == done + 7
    assert without_times(stopped.steps) == without_times(whole.steps)
    where_it_stopped = [e for e in stopped.evaluations if e not in whole.evaluations]
    assert [e["step"] for e in where_it_stopped] == ([done - 1] if (done - 1) % 3 else [])
    assert [e for e in stopped.evaluations if e not in where_it_stopped] == whole.evaluations
    assert stopped.samples == whole.samples
    for name in ("model.safetensors", "optimizer.safetensors"):
        parts = [tmp_path / run / "checkpoints" / f"step_{done + 6}" / name for run in ("stopped", "whole")]
        assert parts[0].read_bytes() == parts[1].read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_under_nohup_a_hangup_does_not_stop_a_run(tmp_path: Path, data: Path) -> None:
    done = subprocess.run([sys.executable, "-c", UNDER_NOHUP, *map(str, train(tmp_path / "run", data))], check=False)
    assert done.returncode == 0
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl").steps) > 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_a_run_whose_reader_has_gone_stops_with_a_checkpoint(tmp_path: Path, data: Path) -> None:
    command = [sys.executable, "-u", "-m", "nanograd_gpt", *map(str, train(tmp_path / "run", data, *LONG))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("Ep 1"):
                break
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == ""
    assert running.returncode == 128 + 13
    done = len(read_metrics(tmp_path / "run" / "metrics.jsonl").steps)
    assert (tmp_path / "run" / "checkpoints" / f"step_{done - 1}").is_dir()


def test_checkpoints_are_written_by_the_clock(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.training.checkpoint_clock.MOST_SHARE", np.inf)  # saving may take all of the time
    works(*train(tmp_path / "run", data, "--max-steps", 4, "--checkpoint-minutes", 1e-9, "--keep", 9))
    found = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert found == ["best", "start", "step_0", "step_1", "step_2", "step_3"]


def test_a_run_that_ends_with_nan_has_written_its_best_weights(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed, it would only become nan again."""
    steps = Run.steps

    def spoiled(run: Run, note: Any) -> Iterator[StepResult]:
        for report in steps(run, note):
            if report.global_step == 3:
                run.model.final_norm.scale.data[0] = np.nan
            yield report

    monkeypatch.setattr(Run, "steps", spoiled)
    run = tmp_path / "run"
    options = ["--eval-freq", "2", "--checkpoint-every", "4", "--checkpoint-minutes", "0"]
    result = nanograd(*train(run, data, "--max-steps", 8, *options))
    assert result.code == 3
    assert read_state(best_checkpoint(run))["progress"]["global_step"] == 2
