"""Files: bounded reads of regular files, atomic and durable changes, checksums, and the error of a full disk.

A rename is made between two fsyncs of its directory, after one of what is renamed, so that a power cut finds the old
entry or the new one, and all that it names.  Windows differs: it can neither open a directory for an fsync nor rename,
replace or delete what another process has open, a virus scanner perhaps; macOS's fsync stops at the drive's own memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from .errors import InputError, RunError, a_or_an

FULL = (errno.ENOSPC, errno.EDQUOT)  # no space left on the device, or of the user's quota

SPECIAL = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class UnreadableError(ValueError):
    """A file that is not what it should be; the message is the reason, for an error that names the file."""


def as_path(path: object, call: str) -> Path:
    """A path from a str or a Path.  Raises TypeError for anything else, with the call's arguments in their order."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {a_or_an(type(path).__name__)}, expected a str or a Path; the order is {call}")
    return Path(path)


def check_named(path: Path, what: str) -> None:
    """Raise InputError for "." and a root as the place of something new, which is first written beside its place."""
    if not path.name:
        raise InputError(f"{what}: {path} has no name of its own; give a new name, such as {path / 'new'}")


def reason_of(error: Exception) -> str:
    """The reason of an error, without the number and the path that an OSError's text has; never empty."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def regular_size(path: Path) -> int:
    """The size of a regular file in bytes.

    Raises UnreadableError for a file that is missing or denied, and for a directory, FIFO, device or socket, whose
    reading might never end.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise UnreadableError(reason_of(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(f"it is {SPECIAL.get(stat.S_IFMT(status.st_mode), 'special')}, not a regular file")
    return status.st_size


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.  Raises UnreadableError: see regular_size."""
    size = regular_size(path)
    if size > most:
        raise UnreadableError(f"it has {size:,} bytes, more than the limit of {most:,}")
    try:
        with path.open("rb") as file:
            content = file.read(size + 1)
    except OSError as error:
        raise UnreadableError(reason_of(error)) from None
    if len(content) != size:
        raise UnreadableError("it changes while it is read")
    return content


def not_written(path: Path | str, error: OSError, then: str = "") -> RunError:
    """An error that says why a file could not be written, and what to do if its disk is full.

    then: what to do after freeing space.
    """
    if error.errno in FULL:
        return RunError(f"{path} could not be written (the disk is full); free space there{then and f', {then}'}")
    return RunError(f"{path} could not be written ({reason_of(error)})")


@contextmanager
def writing_named(path: Path, then: str = "then run this again") -> Iterator[None]:
    """Raise RunError, with a path, for a file that cannot be written in this block; a write's OSError has no name."""
    try:
        yield
    except OSError as error:
        named = error.errno not in FULL and error.filename is not None
        if named or isinstance(error, BrokenPipeError):  # which is about the output
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
    """Put a file's bytes, or a directory's entries, on the disk.

    The entries are left to a system that has no fsync of directories, or denies the reading of this one.
    """
    directory, flags = path.is_dir(), os.O_RDONLY
    if sys.platform == "win32":
        if directory:
            return
        flags = os.O_RDWR  # what is open for reading alone is not flushed there
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        if directory:
            return
        raise
    try:
        _flush(descriptor)
    except OSError as error:
        if not (directory and error.errno in (errno.EINVAL, errno.EBADF)):  # as some network file systems say
            raise
    finally:
        os.close(descriptor)


def fsync_tree(directory: Path) -> None:
    """Put a directory's files and their entries on the disk."""
    for path in (*directory.iterdir(), directory):
        fsync(path)


def _flush(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOTTY, errno.EINVAL):  # the file system does not have it
                raise
        else:
            return
    os.fsync(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and those above it, their entries on the disk; one that exists already is left as it is."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        fsync(directory.parent)


def rename(source: Path, place: Path) -> None:
    """Rename what is on the disk already, durably.  A file replaces another; a directory's place must be free."""
    fsync(place.parent)
    _when_free(lambda: source.replace(place))
    fsync(place.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it."""
    _when_free(lambda: shutil.rmtree(path))


PATIENCE = 2.0  # seconds


def _when_free(change: Callable[[], object]) -> None:
    """Change a file or directory; on Windows, try again for a while if another process has it open."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            change()
        except PermissionError:
            if sys.platform != "win32" or monotonic() > deadline:
                raise
            sleep(PATIENCE / 100)
        else:
            return


PARTIAL = ".partial"  # suffix of a file that is being written, whose name begins with a dot


def remove_partial(directory: Path) -> None:
    """Remove the files that interrupted calls of write_whole have left anywhere in a directory.

    Only for the process that owns the directory.
    """
    for path in directory.rglob(f".*{PARTIAL}"):
        if path.is_file():
            path.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash it has the old content or the new; readers see one of them, too.

    Creates the directory if it is missing.
    """
    check_named(path, "path")
    make_directory(path.parent)
    work = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        work.write_bytes(content)
        fsync(work)
        rename(work, path)
    except OSError as error:
        if error.filename == str(work):
            error.filename = str(path)
        raise
    finally:
        work.unlink(missing_ok=True)
