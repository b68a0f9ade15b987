"""A lock on a run's directory: one process writes, any number read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import InputError

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def run_lock(directory: Path) -> Iterator[None]:
    """Hold a run's directory for writing in this block; the operating system releases it when the process dies.

    Raises InputError if another process holds it.
    """
    path = directory / ".lock"
    with path.open("a+", encoding="ascii") as file:
        try:
            _lock(file)
        except OSError:
            file.seek(0)
            holder = file.read().strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise InputError(
                f"run: {directory} is being written by {who}; wait for its end, or give another directory with --out"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
