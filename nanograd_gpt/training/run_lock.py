"""A lock on a run's directory: one process writes, any number read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import InputError, RunError
from ..files import PARTIAL, fsync, make_directory, reason_of, remove_partial, writing_named
from .run_directory import checkpoints, new_directory

FIRST_FILES = {".lock", "config.toml", "environment.json", "tokenizer.json", "checkpoints"}  # before any checkpoint
LOCK = ".lock"  # the file; it stays, and means nothing unless a process holds it
LOCKED_BYTE = 1 << 20  # on Windows: far behind the text, which other processes could not read otherwise


@contextmanager
def run_lock(directory: Path) -> Iterator[IO[str]]:
    """Hold a run's directory for writing in this block; the operating system releases it when the process dies.

    Files that a process before was writing when it died are removed.  Yields the lock's file; closing it releases it.
    Raises InputError if another process holds it, RunError if the file system has no locks.
    """
    with (directory / LOCK).open("a+", encoding="ascii") as file:
        try:
            _lock(file)
        except OSError as error:
            if not isinstance(error, BlockingIOError | PermissionError):  # PermissionError: on Windows
                raise RunError(
                    f"run: {directory} cannot be locked ({reason_of(error)}); give a directory of another file "
                    "system with --out"
                ) from None
            file.seek(0)
            holder = file.read().strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise InputError(f"run: {directory} is being written by {who}; wait for its end") from None
        with writing_named(directory / LOCK):
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())  # not buffered, or closing would try, and fail, again
        remove_partial(directory)
        yield file


def _lock(file: IO[str]) -> None:
    """Lock a file until it is closed, or the process dies.  Raises OSError if another process has locked it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def new_run(out: Path | None, name: str) -> Iterator[Path]:
    """Create the directory of a new run and hold it: `out`, or runs/NAME, runs/NAME-2 ...; yields its path.

    A directory that is still empty after an error is removed.  Raises InputError if `out` is taken, unless by a run
    that was stopped before its first checkpoint stood.
    """
    directory = _created(Path("runs"), name) if out is None else out
    make_directory(directory)
    unfinished = was_never_begun(directory)
    with run_lock(directory) as lock:
        if not unfinished and any(path.name != LOCK for path in directory.iterdir()):
            raise InputError(f"out: {directory} exists already; give a new directory")
        try:
            yield directory
        except BaseException:
            if all(path.name == LOCK for path in directory.iterdir()):
                _remove_empty(directory, lock)
            raise


def _remove_empty(directory: Path, lock: IO[str]) -> None:
    """Remove a directory that holds its lock alone, unless another process has taken it meanwhile."""
    if sys.platform == "win32":
        lock.close()  # an open file cannot be removed there
    with suppress(OSError):
        (directory / LOCK).unlink()
        directory.rmdir()


def was_never_begun(directory: Path) -> bool:
    """Whether a directory holds a run's first files and no checkpoint: there is nothing in it to resume."""
    if not (directory / LOCK).exists():
        return False
    names = {path.name for path in directory.iterdir() if not path.name.endswith(PARTIAL)}
    return names <= FIRST_FILES and not checkpoints(directory)


def _created(parent: Path, name: str) -> Path:
    """Create a directory that no other process has created."""
    make_directory(parent)
    while True:
        directory = new_directory(parent, name)
        try:
            directory.mkdir()
        except FileExistsError:  # another process was faster
            continue
        fsync(parent)
        return directory
