"""The tests that need a GPU, and a run that is trained, stopped and resumed there and compared with the CPU's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from step import PYTEST, ROOT, Step

FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
COUNTS = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] \S+ (.*)$", re.MULTILINE)
SETTINGS = ["--n-layers", "2", "--emb-dim", "64", "--n-heads", "2", "--context-length", "32", "--eval-freq", "10"]
GPU_TESTS = [
    "tests/backend",
    "tests/generation/test_sampling_on_cuda.py",
    "tests/oracle/test_opinfo_on_device.py",
    "tests/standin",
    "tests/tape/test_tape_on_cuda.py",
    "tests/test_xp_names.py",
    "tests/training/test_layer_scales.py",
    "tests/training/test_replay.py",
]
DRY = ["--batch-size", "2", "--n-layers", "1", "--emb-dim", "16", "--context-length", "8", "--eval-iter", "1"]
TOLERANCE = 1e-3  # nats, of losses in float32 after 20 updates


def started_tests(step: Step) -> subprocess.Popen[str]:
    """Start pytest -m gpu; in a dry run, the same tests' cases on the stand-in that are quickest."""
    chosen = step.pick(
        ["-m", "gpu", *GPU_TESTS], ["-k", "test_a_step_that_clips", "tests/backend/test_training_on_cuda.py"]
    )
    workers = ["-n", str(min(12, os.cpu_count() or 1))] if find_spec("xdist") and not step.dry else []
    return subprocess.Popen(
        [*PYTEST, *workers, *chosen], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def tests_and_training(step: Step) -> None:
    """Both at a time: each waits for the CPU most of the time."""
    with started_tests(step) as process:
        training(step)
        output, _ = process.communicate()
    counts = {name: int(n) for n, name in COUNTS.findall(output.splitlines()[-1] if output else "")}
    end = output[-3000:] if process.returncode else ""
    reasons: Counter[str] = Counter()
    for n, reason in SKIPPED.findall(output):
        reasons[reason] += int(n)
    facts = {"failures": FAILURE.findall(output)[:50], "reasons": reasons, "end": end}
    step.emit("tests", code=process.returncode, **counts, **facts)


def trained(device: str, folder: Path, step: Step) -> list[float]:
    """Losses of 20 updates, resumed after half of them."""
    from nanograd_gpt.cli import main
    from nanograd_gpt.training.metrics import read_metrics

    run, more = folder / device, step.pick([], ["--data", "story", *DRY])
    half, all_of_it = step.pick(["10", "20"], ["2", "4"])
    first = ["train", "--device", device, "--out", str(run), "--max-steps", half, *SETTINGS, *more]
    for arguments in (first, ["train", "--resume", str(run), "--device", device, "--max-steps", all_of_it]):
        if code := main(arguments):
            raise RuntimeError(f"nanograd-gpt {' '.join(arguments)} ended with {code}")
    return [event["loss"] for event in read_metrics(run / "metrics.jsonl").steps]


def training(step: Step) -> None:
    from contextlib import redirect_stdout

    without_figures = patch("nanograd_gpt.cli.train.write_figures", lambda run: [])  # they take longer than the updates
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr), without_figures:
        ours, cpus = (trained(device, Path(folder), step) for device in ("cuda", "cpu"))
    worst = max(abs(a - b) for a, b in zip(ours, cpus, strict=True))
    step.emit("training", updates=len(ours), last=ours[-1], worst_difference=worst, holds=worst < TOLERANCE)


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(tests_and_training))
