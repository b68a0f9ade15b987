"""The space on the disk that a run's checkpoints will take."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import RunError
from .config import RunConfig
from .run_directory import checkpoints

FLOAT32 = 4  # bytes of a parameter


def check_disk_space(directory: Path, config: RunConfig, total_steps: int) -> None:
    """Raise RunError if a run's disk has too little space for its checkpoints."""
    parent = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.is_dir())
    needed, disk = _bytes_needed(directory, config, total_steps), shutil.disk_usage(parent)
    if disk.total and disk.free < needed:  # some virtual file systems report 0 for both
        elsewhere = "" if checkpoints(directory) else ", or give another directory with --out"
        raise RunError(
            f"training: checkpoints in {directory} will take {needed:,} bytes, its disk has {disk.free:,} left; "
            f"free space there{elsewhere}"
        )


def _bytes_needed(directory: Path, config: RunConfig, total_steps: int) -> int:
    """Size of what is still to be written before anything is deleted: checkpoints, and the best weights twice."""
    t, weights = config.training, FLOAT32 * config.model.n_parameters
    planned = 2 + (total_steps // t.checkpoint_every if t.checkpoint_every else 0)  # with the first and last
    planned += t.keep if t.checkpoint_minutes else 0
    there = len(checkpoints(directory))
    return 3 * weights * max(1, min(planned, t.keep + 1) - there) + 2 * weights
