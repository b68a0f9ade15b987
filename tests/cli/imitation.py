"""Imitations of what Windows and macOS refuse or do otherwise, for the package's own modules in this process.

Real files of Linux lie beneath; what the imitated system would not do raises its error, and the order of fsync and
rename is recorded.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import local
from types import ModuleType
from typing import Any

import pytest

PLATFORM_USERS = ["nanograd_gpt.files", "nanograd_gpt.training.run_lock", "nanograd_gpt.cli.signals"]
PLATFORM_USERS += ["nanograd_gpt.cli.options"]


class Platform:
    """The module sys for the package, of another platform."""

    def __init__(self, platform: str) -> None:
        self.platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def open_paths() -> set[str]:
    """The paths of the files that this process has open; another thread may close one while they are read."""
    paths = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            paths.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return paths


class Disk:
    """A record of what is on the disk: by inode, when a file had last been changed at its last flush."""

    def __init__(self, directories: bool) -> None:
        self.directories = directories  # whether they are flushed at all
        self.flushed: dict[tuple[int, int], int] = {}
        self.renames: list[str] = []
        self.wrong: list[str] = []
        self.order = local()  # each thread keeps an order of its own: a snapshot may be written beside a checkpoint

    @property
    def owed(self) -> Path | None:
        """The directory whose entries this thread must flush next."""
        return getattr(self.order, "owed", None)

    @owed.setter
    def owed(self, directory: Path | None) -> None:
        self.order.owed = directory

    def flush(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.flushed[status.st_dev, status.st_ino] = status.st_mtime_ns
        if self.owed is not None and os.path.samestat(status, self.owed.stat()):
            self.owed = None

    def rename(self, source: Path, place: Path) -> None:
        self.pay(f"the rename of {source.name}")
        content = [source, *source.rglob("*")] if source.is_dir() else [source]
        for path in (*content, place.parent):
            if (self.directories or path.is_file()) and not self.is_flushed(path):
                self.wrong.append(f"{path} is not on the disk before the rename of {source.name} to {place.name}")
        self.renames.append(place.name)

    def renamed(self, place: Path) -> None:
        self.owed = place.parent if self.directories else None

    def pay(self, what: str) -> None:
        """A change that must not come before the last rename is on the disk."""
        if self.owed is not None:
            self.wrong.append(f"{self.owed} is not flushed before {what}")

    def is_flushed(self, path: Path) -> bool:
        status = path.stat()
        return self.flushed.get((status.st_dev, status.st_ino)) == status.st_mtime_ns


def is_open(descriptor: int, status: os.stat_result) -> bool:
    """Whether this descriptor is still one of that file."""
    try:
        return os.path.samestat(os.fstat(descriptor), status)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False


class Locks(ModuleType):
    """The module msvcrt: locks on bytes of files, held until the file is closed."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[tuple[int, int, int], int] = {}  # descriptors

    def locking(self, descriptor: int, mode: int, n_bytes: int) -> None:
        status, position = os.fstat(descriptor), os.lseek(descriptor, 0, os.SEEK_CUR)
        assert (mode, n_bytes) == (self.LK_NBLCK, 1)
        assert position > status.st_size  # or others could not read who holds it
        key = status.st_dev, status.st_ino, position
        holder = self.held.get(key)
        if holder not in (None, descriptor) and is_open(holder, status):
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held[key] = descriptor


def imitate(platform: str, monkeypatch: pytest.MonkeyPatch, full_fsync: bool = True) -> Disk:
    """Let the package run on "linux", "darwin" or "win32"; full_fsync: whether macOS's file system has F_FULLFSYNC."""
    for name in PLATFORM_USERS:
        monkeypatch.setattr(import_module(name), "sys", Platform(platform))
    disk = Disk(directories=platform != "win32")
    _record(disk, monkeypatch)
    if platform == "darwin":
        _as_on_macos(disk, monkeypatch, full_fsync)
    if platform == "win32":
        _as_on_windows(monkeypatch)
    return disk


def _record(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, unlink = os.fsync, os.unlink

    def recorded(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, place: Any, **more: Any) -> None:
            disk.rename(Path(source), Path(place))
            change(source, place, **more)
            disk.renamed(Path(place))

        return call

    def flush(descriptor: int) -> None:
        fsync(descriptor)
        disk.flush(descriptor)

    def remove(path: Any, **more: Any) -> None:
        disk.pay(f"the removal of {path}")
        unlink(path, **more)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "unlink", remove)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, recorded(getattr(os, name)))


def _as_on_macos(disk: Disk, monkeypatch: pytest.MonkeyPatch, full_fsync: bool) -> None:
    import fcntl

    control, fsync = fcntl.fcntl, os.fsync

    def full(descriptor: int, command: int, argument: Any = 0) -> Any:
        if command != fcntl.F_FULLFSYNC:
            return control(descriptor, command, argument)
        if not full_fsync:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        return fsync(descriptor)

    def only_to_the_drive(descriptor: int) -> None:
        if not full_fsync:  # nothing more can be had
            fsync(descriptor)

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full)
    monkeypatch.setattr(os, "fsync", only_to_the_drive)


def _as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, fsync, rename, replace, unlink = os.open, os.fsync, os.rename, os.replace, os.unlink
    read_only = set()

    def denied(path: Any, why: str) -> PermissionError:
        return PermissionError(errno.EACCES, why, str(path))

    def free(path: Any) -> None:
        here = os.path.realpath(path)
        if any(file == here or file.startswith(here + os.sep) for file in open_paths()):
            raise denied(path, "The process cannot access the file because it is being used by another process")

    def open_file(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if os.path.isdir(path) and "dir_fd" not in more:
            raise denied(path, "Permission denied")
        descriptor = opened(path, flags, mode, **more)
        (read_only.discard if flags & (os.O_RDWR | os.O_WRONLY) else read_only.add)(descriptor)
        return descriptor

    def flush(descriptor: int) -> None:
        if descriptor in read_only:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    def rename_file(source: Any, place: Any, **more: Any) -> None:
        if os.path.exists(place):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(place))
        free(source)
        rename(source, place, **more)

    def replace_file(source: Any, place: Any, **more: Any) -> None:
        if os.path.isdir(place):
            raise denied(place, "Access is denied")
        free(source)
        if os.path.exists(place):
            free(place)
        replace(source, place, **more)

    def remove(path: Any, **more: Any) -> None:
        free(path)
        unlink(path, **more)

    for name, function in (("open", open_file), ("fsync", flush), ("rename", rename_file), ("replace", replace_file)):
        monkeypatch.setattr(os, name, function)
    monkeypatch.setattr(os, "unlink", remove)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    monkeypatch.setattr("nanograd_gpt.files.PATIENCE", 0.05)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Locks())
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
