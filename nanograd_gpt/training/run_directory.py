"""The places in a run's directory.

runs/NAME/config.toml  environment.json  tokenizer.json  metrics.jsonl  samples.txt
          figures/*.png|svg  report.html  checkpoints/step_N/
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


def checkpoints(directory: Path) -> list[Path]:
    """List a run's checkpoints, oldest first."""
    found = (directory / "checkpoints").glob("step_*")
    return sorted((p for p in found if p.name[5:].isdigit()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the number of the last update before a checkpoint, from its name."""
    return int(checkpoint.name.removeprefix("step_"))


def latest_checkpoint(directory: Path) -> Path:
    """Return a run's newest checkpoint.  Raises InputError if there is none."""
    found = checkpoints(directory)
    if not found:
        raise InputError(f"run: {directory} has no checkpoint; give a directory that `nanograd-gpt train` wrote")
    return found[-1]


def new_directory(parent: Path, name: str) -> Path:
    """Return parent/name, or parent/name-2 and so on if it exists.  Creates nothing."""
    candidate, n = parent / name, 1
    while candidate.exists():
        n += 1
        candidate = parent / f"{name}-{n}"
    return candidate
