"""Helpers that run commands, in this process or in a separate one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from nanograd_gpt.cli import main
from nanograd_gpt.training.metrics import Event, read_metrics

SENTENCE = "the sun rose over a quiet river and an old miller opened his door to see who had come with the wind"
WORDS = SENTENCE.split()
TEXT = " ".join(WORDS[(7 * i + i // 5) % len(WORDS)] for i in range(160))

SIZES = ["--n-layers", "1", "--emb-dim", "16", "--n-heads", "2", "--context-length", "16", "--n-merges", "50"]
COURSE = ["--batch-size", "2", "--schedule", "flat", "--eval-freq", "3", "--eval-iter", "2", "--sample-every", "1"]

COSINE = ["--epochs", 2, "--schedule", "cosine", "--lr", 0.01, "--warmup-steps", 4, "--min-lr", 0.0001]
LONG = ["--epochs", 100_000, "--drop-rate", 0.2, "--max-norm", 1]

PROGRAM = ["-m", "nanograd_gpt"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


def nanograd(*argv: object) -> Result:
    """Run a command in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(a) for a in argv])
    return Result(code, out.getvalue(), err.getvalue())


def works(*argv: object) -> str:
    """The output of a command, which must succeed with nothing on stderr."""
    result = nanograd(*argv)
    assert (result.code, result.err) == (0, ""), result
    return result.out


def fails(*argv: object, code: int = 2) -> str:
    """The one-line error of a command."""
    return complaint(nanograd(*argv), code)


def complaint(result: Result, code: int) -> str:
    assert result.err.startswith("error: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n")
    assert "Traceback" not in result.out, result
    assert result.code == code, result
    return result.err.removeprefix("error: ").strip()


def process(*argv: object, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start the program in a separate process."""
    return subprocess.Popen(
        [sys.executable, *PROGRAM, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **(env or {})},
        **options,
    )


def finished(running: subprocess.Popen[str]) -> Result:
    out, err = running.communicate(timeout=60)
    return Result(running.returncode, out, err)


def train(directory: Path, data: Path, *argv: object) -> list[str]:
    """The arguments of a very small training run."""
    return ["train", "--out", str(directory), "--data", str(data), *SIZES, *COURSE, *map(str, argv)]


def rate_line(printed: str) -> str | None:
    """The line of a header that tells the learning rate's course."""
    begin = "schedule    learning rate "
    lines = [line.removeprefix(begin) for line in printed.splitlines() if line.startswith(begin)]
    assert len(lines) <= 1
    return lines[0] if lines else None


def contents(directory: Path) -> dict[Path, bytes]:
    """Every file of a directory."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def without_times(events: list[Event]) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name != "seconds"} for event in events]


def interrupted(directory: Path, data: Path, number: signal.Signals) -> int:
    """Start a long run and send it a signal after a few updates; returns the number of updates."""
    # SIGHUP is ignored by what nohup starts, such as this test perhaps
    heard = {"preexec_fn": partial(signal.signal, number, signal.SIG_DFL)} if number.name == "SIGHUP" else {}
    running = process(*train(directory, data, *LONG), **heard)
    log, deadline = directory / "metrics.jsonl", monotonic() + 30
    while not (log.exists() and '"step": 4,' in log.read_text(encoding="utf-8")):
        assert running.poll() is None, running.communicate()
        assert monotonic() < deadline
        sleep(0.01)
    running.send_signal(number)
    result = finished(running)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    again = f"{'press' if number == signal.SIGINT else 'send'} {name} again"
    assert result.err == f"stopping after this update; {again} to stop at once, without a checkpoint\n"
    assert result.code == 128 + number
    last = result.out.splitlines()[-1]
    assert last == f"stopped by {name}; resume with: nanograd-gpt train --resume {directory}"
    return len(read_metrics(log).steps)
