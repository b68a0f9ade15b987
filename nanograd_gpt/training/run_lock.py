"""A lock on a run's directory: one process writes, any number read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import InputError
from ..files import PARTIAL, full_disk_named, remove_partial
from .run_directory import checkpoints, new_directory

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(1 << 20)  # far behind the text, which other processes could not read otherwise
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


FIRST_FILES = {".lock", "config.toml", "environment.json", "tokenizer.json", "checkpoints"}  # before any checkpoint
LOCK = ".lock"  # the file; it stays, and means nothing unless a process holds it


@contextmanager
def run_lock(directory: Path) -> Iterator[None]:
    """Hold a run's directory for writing in this block; the operating system releases it when the process dies.

    Files that a process before was writing when it died are removed.
    Raises InputError if another process holds it.
    """
    with (directory / LOCK).open("a+", encoding="ascii") as file:
        try:
            _lock(file)
        except OSError:
            file.seek(0)
            holder = file.read().strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise InputError(
                f"run: {directory} is being written by {who}; wait for its end, or give another directory with --out"
            ) from None
        with full_disk_named(directory / LOCK):
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())  # not buffered, or closing would try, and fail, again
        remove_partial(directory)
        yield


@contextmanager
def new_run(out: Path | None, name: str) -> Iterator[Path]:
    """Create the directory of a new run and hold it: `out`, or runs/NAME, runs/NAME-2 ...; yields its path.

    A directory that is still empty after an error is removed.  Raises InputError if `out` is taken, unless by a run
    that was stopped before its first checkpoint stood.
    """
    directory = _created(Path("runs"), name) if out is None else out
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = was_never_begun(directory)
    with run_lock(directory):
        if not unfinished and any(path.name != LOCK for path in directory.iterdir()):
            raise InputError(f"out: {directory} exists already; give a new directory")
        try:
            yield directory
        except BaseException:
            if all(path.name == LOCK for path in directory.iterdir()):
                (directory / LOCK).unlink()
                directory.rmdir()
            raise


def was_never_begun(directory: Path) -> bool:
    """Whether a directory holds a run's first files and no checkpoint: there is nothing in it to resume."""
    if not (directory / LOCK).exists():
        return False
    names = {path.name for path in directory.iterdir() if not path.name.endswith(PARTIAL)}
    return names <= FIRST_FILES and not checkpoints(directory)


def _created(parent: Path, name: str) -> Path:
    """Create a directory that no other process has created."""
    while True:
        directory = new_directory(parent, name)
        try:
            directory.mkdir(parents=True)
        except FileExistsError:  # another process was faster
            continue
        return directory
