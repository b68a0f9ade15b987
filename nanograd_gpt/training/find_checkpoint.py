"""The checkpoint that a path stands for, and recovery of checkpoints after a crash."""

from __future__ import annotations

from os.path import lexists
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..files import fsync_tree, remove_tree, rename
from .checkpoint import asides, read_state
from .run_directory import checkpoints


class FoundCheckpoint(NamedTuple):
    """An undamaged checkpoint, its state, and what is wrong with the newer ones that were passed over."""

    path: Path
    state: dict[str, Any]
    damaged: list[str]

    @property
    def run(self) -> Path | None:
        """The directory of its run; None for one that is not in a run, as save_checkpoint writes it."""
        run = run_of(self.path)
        return None if run == self.path else run


def run_of(path: Path) -> Path:
    """The directory of the run that a checkpoint RUN/checkpoints/NAME is in; any other path is returned as it is."""
    folder, run = path.absolute().parent, path.absolute().parent.parent
    in_run = folder.name == "checkpoints" and any((run / name).is_file() for name in ("config.toml", "tokenizer.json"))
    return run if in_run and is_checkpoint(path) else path


def is_checkpoint(path: Path) -> bool:
    """Tell whether a directory is a checkpoint, whole or damaged."""
    return (path / "state.json").exists() or (path / "MANIFEST.json").exists()


def find_checkpoint(path: Path) -> FoundCheckpoint:
    """Find the checkpoint at a path: a checkpoint itself, or the newest undamaged one of a run.

    A checkpoint that its run deletes at this moment is passed over.
    Raises InputError if there is none; if all are damaged, with the newest one's damage.
    """
    if is_checkpoint(path):
        return FoundCheckpoint(path, read_state(path), [])
    damaged: list[str] = []
    listed = checkpoints(path)
    for candidate in reversed(listed):
        try:
            return FoundCheckpoint(candidate, read_state(candidate), damaged)
        except InputError as error:
            if lexists(candidate):
                damaged.append(str(error).removesuffix("; use an earlier one"))
    if not all(map(lexists, listed)):  # then there are newer ones
        return find_checkpoint(path)
    if damaged:
        raise InputError(f"{damaged[0]}; {path} has no other checkpoint that is whole")
    what = "has no checkpoint" if path.exists() else "does not exist"
    raise InputError(f"run: {path} {what}; give a directory that `nanograd-gpt train` wrote")


def recover_checkpoints(run: Path) -> None:
    """Finish or undo what a crash interrupted in a run's checkpoints.  Only for the process that owns the run.

    A checkpoint that was written whole but not yet renamed takes its place; what was set aside for it returns if it is
    needed, and is deleted otherwise.
    """
    for place in {aside.place for aside in asides(run / "checkpoints")}:
        for aside in [aside for aside in asides(place.parent) if aside.place == place]:  # a new one before an old one
            if not place.exists() and _is_whole(aside.path):
                fsync_tree(aside.path)  # its writer may have died before
                rename(aside.path, place)
            else:
                remove_tree(aside.path)


def _is_whole(path: Path) -> bool:
    try:
        read_state(path)
    except InputError:
        return False
    return True
