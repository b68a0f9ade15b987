"""samples.txt: a run's samples for people to read, one line each; metrics.jsonl has them for programs."""

from __future__ import annotations

import re
from pathlib import Path

from ..files import write_whole

SAMPLES = "samples.txt"
STEP = re.compile(r"Epoch \d+ \(step (\d+)\): ")


def append_sample(directory: Path, epoch: int, step: int, text: str) -> None:
    """Add a sample, taken after update `step`, to a run's samples.txt."""
    with (directory / SAMPLES).open("a", encoding="utf-8") as file:
        file.write(f"Epoch {epoch} (step {step}): {text}\n")


def cut_samples(directory: Path, step: int) -> None:
    """Remove the samples after update `step`, which a run resumed from there takes again, and a line cut short."""
    path = directory / SAMPLES
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if (found := STEP.match(line)) and int(found[1]) <= step and line.endswith("\n")]
    if kept != lines:
        write_whole(path, "".join(kept).encode())
