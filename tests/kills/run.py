"""Kill runs at every file operation of a training and at random instants; each must go on to the same end.

    python tests/kills/run.py [N]

A small run that is never stopped is the reference.  Others are killed by SIGKILL, before their k-th file operation for
every k, and after random times until N were killed [400]; a third of those that are resumed are killed again.  Each is
then resumed to its end, where weights, moments, random streams, metrics and samples must be the reference's, bit by
bit, and no other file may lie in its directory.  Each run is a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from cli.commands import COURSE, SIZES, TEXT

from nanograd_gpt.backend.cpu.threads import set_threads
from nanograd_gpt.bench.expected import Expected
from nanograd_gpt.cli import header, main, train
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run_directory import checkpoints

UPDATES = 10
SETTINGS = ["--max-steps", str(UPDATES), "--epochs", "2", "--checkpoint-every", "3", "--max-norm", "1", "--keep", "2"]
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}  # of Python's audit hooks
NEVER = 1 << 30
ENDED, REFUSED = 0, 2
ATTEMPTS = 20


def arguments(run: Path, data: Path) -> list[str]:
    return ["train", "--out", str(run), "--data", str(data), *SIZES, *COURSE, *SETTINGS]


def in_process(argv: list[str], run: Path, kill_at: int, count: Path | None = None) -> int:
    """Fork a process that runs a command and kills itself before file operation `kill_at` in `run`; returns its pid."""
    if pid := os.fork():
        return pid
    seen = 0

    def operation(path: object) -> None:
        nonlocal seen
        if isinstance(path, (str, os.PathLike)) and str(run) in os.fspath(path):
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    fsync = os.fsync

    def counted_fsync(descriptor: int) -> None:
        operation(run)
        fsync(descriptor)

    os.fsync = counted_fsync
    sys.addaudithook(lambda event, args: operation(args[0]) if event in EVENTS else None)
    code = 70  # of a failure in this function itself
    try:
        with quiet():
            code = main(argv)
        if count is not None:
            count.write_text(str(seen), encoding="ascii")
    finally:
        os._exit(code)


@contextmanager
def quiet() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
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
    """Runs that are killed, resumed and compared with the reference."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.random = work, random.Random(seed)
        self.data = work / "text.txt"
        self.data.write_text(TEXT, encoding="utf-8")
        self.kills, self.runs, self.wrong = 0, 0, []
        with quiet():
            main(arguments(work / "warm", self.data))  # what is loaded on first use, children have then
        reference, count = work / "reference", work / "count"
        started = monotonic()
        assert code_of(in_process(arguments(reference, self.data), reference, NEVER, count)) == ENDED
        self.seconds = monotonic() - started
        self.operations = int(count.read_text(encoding="ascii"))
        self.expected = state_of(reference)

    def kill(self, kill_at: int | None) -> None:
        """Kill a new run before a file operation, or at a random instant, resume it to its end, and compare."""
        run = self.work / f"run{self.runs}"
        self.runs += 1
        place = "at a random instant" if kill_at is None else f"before file operation {kill_at}"
        self._attempt(arguments(run, self.data), run, kill_at)
        for _ in range(ATTEMPTS):
            # without a checkpoint, nothing was trained: the run is started once more, in the same directory
            argv = ["train", "--resume", str(run)] if checkpoints(run) else arguments(run, self.data)
            again = self.random.choice([None, self.random.randrange(self.operations)])
            if self.random.random() < 1 / 3:
                self._attempt(argv, run, again)
                continue
            code = code_of(in_process(argv, run, NEVER))
            if code != ENDED:
                self.wrong.append(f"{place}: exit {code} of {' '.join(argv[:3])}")
                return
            break
        found = state_of(run)
        if found != self.expected:
            names = sorted(
                name for name in found.keys() | self.expected.keys() if found.get(name) != self.expected.get(name)
            )
            self.wrong.append(f"{place}: differs in {', '.join(names)}")
            return
        shutil.rmtree(run)

    def _attempt(self, argv: list[str], run: Path, kill_at: int | None) -> None:
        pid = in_process(argv, run, NEVER if kill_at is None else kill_at)
        if kill_at is None:
            sleep(self.random.random() * self.seconds)
            os.kill(pid, signal.SIGKILL)
        self.kills += code_of(pid) == -signal.SIGKILL


def killed(n: int, seed: int, at: Callable[[int], list[int]], work: Path) -> Trial:
    """Kill at the file operations that `at` chooses of their number, then at random instants until n were killed."""
    train.write_figures, train.check_figures = (lambda directory: []), (lambda directory: None)
    header.expected_of = lambda *sizes: Expected(0, 0.0)  # its timing takes longer than the run
    set_threads(1)  # a forked process has no other
    trial = Trial(work, seed)
    for kill_at in at(trial.operations):
        trial.kill(kill_at)
    while trial.kills < n:
        trial.kill(None)
    return trial


def memory_disk() -> str | None:
    """A file system in memory if there is one, where fsync takes no time; SIGKILL loses nothing written to it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def program() -> int:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
        trial = killed(n, seed=n, at=lambda operations: list(range(operations)), work=Path(directory))
    print(
        f"{trial.operations} file operations; {trial.kills} kills in {trial.runs} runs; {len(trial.wrong)} went wrong"
    )
    print("\n".join(trial.wrong))
    return bool(trial.wrong)


if __name__ == "__main__":
    sys.exit(program())
