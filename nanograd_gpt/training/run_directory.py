"""The places in a run's directory.

runs/NAME/config.toml  environment.json  tokenizer.json  metrics.jsonl  samples.txt
          surprise.json  snapshots.json  figures/*.png|svg  report.html
          checkpoints/start/   before the first update
                      step_N/  after update N
                      best/    the weights alone, of the evaluation with the lowest validation loss
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..files import reason_of, remove_tree

START, BEST = "start", "best"
SURPRISE = "surprise.json"  # see surprise.py
SNAPSHOTS = "snapshots.json"  # see snapshots.py


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return the path of a run's checkpoint after update `step`, -1 being before the first."""
    return directory / "checkpoints" / (START if step < 0 else f"step_{step}")


def best_checkpoint(directory: Path) -> Path:
    """Return the path of the weights with the lowest validation loss of a run, whether they are there or not."""
    return directory / "checkpoints" / BEST


def checkpoints(directory: Path) -> list[Path]:
    """List the checkpoints that a run can be resumed from, oldest first."""
    steps = (path for path in (directory / "checkpoints").glob("step_*") if path.name[5:].isdecimal())
    start = checkpoint_path(directory, -1)
    return [*([start] if start.is_dir() else []), *sorted(steps, key=step_of)]


def step_of(checkpoint: Path) -> int:
    """Return the number of the last update before a checkpoint, from its name; -1 before the first."""
    return -1 if checkpoint.name == START else int(checkpoint.name.removeprefix("step_"))


def delete_needless(directory: Path, step: int, keep: int, note: Callable[[str], object] | None = None) -> None:
    """Delete the oldest checkpoints up to update `step` beyond the number to keep, and all that are later.

    note: told why an old one cannot be deleted, which then stays [None: an error]
    """
    others = checkpoints(directory)
    later = [other for other in others if step_of(other) > step]
    for left in later:
        remove_tree(left)
    for old in others[: len(others) - len(later)][:-keep]:
        try:
            remove_tree(old)
        except OSError as error:
            if note is None:
                raise
            note(f"{old} could not be deleted ({reason_of(error)}); the next checkpoint or --resume tries again")


def new_directory(parent: Path, name: str) -> Path:
    """Return parent/name, or parent/name-2 and so on if it exists.  Creates nothing."""
    candidate, n = parent / name, 1
    while candidate.exists():
        n += 1
        candidate = parent / f"{name}-{n}"
    return candidate
