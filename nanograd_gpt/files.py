"""Files: atomic writes, fsync, checksums, and the error of a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import RunError, a_or_an

FULL = (errno.ENOSPC, errno.EDQUOT)  # no space left on the device, or of the user's quota


def as_path(path: object, call: str) -> Path:
    """A path from a str or a Path.  Raises TypeError for anything else, with the call's arguments in their order."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {a_or_an(type(path).__name__)}, expected a str or a Path; the order is {call}")
    return Path(path)


def not_written(path: Path | str, error: Exception, then: str = "") -> RunError:
    """An error that says why a file could not be written, and what to do if its disk is full.

    error: an OSError, or another library's error with "os error N" in its message; then: what to do after making room.
    """
    full = any(getattr(error, "errno", None) == number or f"os error {number})" in str(error) for number in FULL)
    if full:
        return RunError(f"{path} could not be written (the disk is full); make room there{then and f', {then}'}")
    why = getattr(error, "strerror", None) or re.sub(r" at path .*", "", str(error), flags=re.DOTALL)
    return RunError(f"{path} could not be written ({why})")


@contextmanager
def full_disk_named(path: Path, then: str = "then run this again") -> Iterator[None]:
    """Raise RunError, with a path, for a disk that becomes full in this block; a write's OSError has no file name."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise not_written(error.filename or path, error, then) from None


def is_empty_directory(path: Path) -> bool:
    """Whether a directory is there, with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash it has the old content or the new; readers see one of them, too.

    Creates the directory if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        work.write_bytes(content)
        fsync(work)
        work.replace(path)
        fsync(path.parent)
    finally:
        work.unlink(missing_ok=True)
