"""Small runs in processes of their own, to which something happens before a file operation; and their end's state."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from cli.commands import COURSE, SIZES, TEXT
from count_argument import count_arguments as count_arguments  # for the programs here

from nanograd_gpt.backend.cpu.threads import set_threads
from nanograd_gpt.bench.expected import Expected
from nanograd_gpt.cli import header, main, train
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run_directory import checkpoints

UPDATES = 10
SETTINGS = ["--max-steps", str(UPDATES), "--epochs", "2", "--checkpoint-every", "3", "--max-norm", "1", "--keep", "2"]
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}  # of Python's audit hooks
ENDED = 0


def arguments(run: Path, data: Path) -> list[str]:
    return ["train", "--out", str(run), "--data", str(data), *SIZES, *COURSE, *SETTINGS]


def continuation(run: Path, data: Path) -> list[str]:
    """The command that goes on with a run; without a checkpoint, nothing was trained, and it is started once more."""
    return ["train", "--resume", str(run)] if checkpoints(run) else arguments(run, data)


def nothing(operation: int) -> None:
    """Let a file operation be."""


def in_process(
    argv: list[str],
    run: Path,
    before: Callable[[int], None] = nothing,
    errors: str | Path = os.devnull,
    count: Path | None = None,
) -> int:
    """Fork a process that runs a command and calls `before` with the number of each file operation in `run`.

    Returns its pid.  errors: a file for what it writes to stderr; count: one for the number of operations.
    """
    if pid := os.fork():
        return pid
    seen = -1

    def operation(path: object) -> None:
        nonlocal seen
        if isinstance(path, (str, os.PathLike)) and str(run) in os.fspath(path):
            seen += 1
            before(seen)

    fsync = os.fsync

    def counted_fsync(descriptor: int) -> None:
        operation(run)
        fsync(descriptor)

    os.fsync = counted_fsync
    sys.addaudithook(lambda event, args: operation(args[0]) if event in EVENTS else None)
    code = 70  # of a failure in this function itself
    try:
        with quiet(errors):
            code = main(argv)
        if count is not None:
            count.write_text(str(seen + 1), encoding="ascii")
    finally:
        os._exit(code)


@contextmanager
def quiet(errors: str | Path = os.devnull) -> Iterator[None]:
    with (
        open(os.devnull, "w", encoding="utf-8") as out,
        open(errors, "w", encoding="utf-8") as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        yield


def code_of(pid: int) -> int:
    """Wait for a process; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state_of(run: Path) -> dict[str, Any]:
    """All that must be equal at the end: files by their contents, but for times and places."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(path.relative_to(run))
        if name in (".lock", "environment.json", "config.toml") or name.endswith("MANIFEST.json"):
            found[name] = "is there"
        elif name.endswith("state.json"):
            state = json.loads(path.read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in state.items() if key != "environment"}
        elif name == "metrics.jsonl":
            metrics = read_metrics(path)
            steps = [{key: value for key, value in event.items() if key != "seconds"} for event in metrics.steps]
            found[name] = steps, metrics.evaluations, metrics.samples
        else:
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


class Trial:
    """A reference that is never disturbed, and what is compared with it."""

    def __init__(self, work: Path, seed: int) -> None:
        train.write_figures, train.check_figures = (lambda directory: []), (lambda directory: None)
        header.expected_of = lambda *sizes: Expected(0, 0.0)  # its timing takes longer than the run
        set_threads(1)  # a forked process has no other
        self.work, self.random = work, random.Random(seed)
        self.data = work / "text.txt"
        self.data.write_text(TEXT, encoding="utf-8")
        self.runs, self.wrong = 0, []
        with quiet():
            main(arguments(work / "warm", self.data))  # what is loaded on first use, children have then
        reference, count = work / "reference", work / "count"
        started = monotonic()
        assert code_of(in_process(arguments(reference, self.data), reference, count=count)) == ENDED
        self.seconds = monotonic() - started
        self.operations = int(count.read_text(encoding="ascii"))
        self.expected = state_of(reference)

    def new_run(self) -> Path:
        """The directory of the next run, which is not there yet."""
        self.runs += 1
        return self.work / f"run{self.runs}"

    def differences(self, run: Path) -> list[str]:
        """The files of a run that ended which are not the reference's."""
        found = state_of(run)
        names = found.keys() | self.expected.keys()
        return sorted(name for name in names if found.get(name) != self.expected.get(name))


def memory_disk() -> str | None:
    """A file system in memory if there is one, where fsync takes no time; SIGKILL loses nothing written to it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
