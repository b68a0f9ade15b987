"""Two writers and ten readers in one run's directory, each a process; the run must end as if it were alone.

    python tests/kills/together.py [N]

Two trainings of N updates [300] begin at once in one directory, each with a checkpoint after every update, of which two
are kept; one of them must be refused, and every --resume meanwhile, with the number of the one that writes.  Two each
of ten processes evaluate, generate, plot, print info, or load the newest checkpoint in Python, again and again, from
before the run's first file until its end.  Every reading must work, or end in one line; the last, after the run's end,
must work.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from time import sleep

from trial import ENDED, Trial, arguments, code_of, count_arguments, in_process, memory_disk, state_of

from nanograd_gpt.cli import main
from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.training.sources import load_pretrained

REFUSED = 2
OF_EACH = 2  # readers of a kind
PAUSE = 0.02  # seconds between two readings, so that the writer has a processor at times
IN_ONE_LINE = ("exit 1: error: ", "exit 2: error: ", "checkpoint: ", "run: ", "model: ")  # how an error begins


class Outcome(Counter[str]):
    """Count how often a reader worked, and how often it ended with each error."""


class Together(Trial):
    """Runs that are written by two and read by ten."""

    def __init__(self, work: Path, updates: int) -> None:
        super().__init__(work, seed=updates)
        self.length = ["--max-steps", str(updates), "--epochs", str(updates), "--checkpoint-every", "1"]
        alone = work / "alone"
        if code_of(in_process(self.begin(alone), alone)) != ENDED:
            self.wrong.append("the run alone does not end")
        self.expected = state_of(alone)
        self.readings: dict[str, Outcome] = {}
        self.refusals = 0

    def begin(self, run: Path) -> list[str]:
        return [*arguments(run, self.data), *self.length]

    def run(self) -> None:
        """Let writers and readers work in a new run's directory, and judge all of them."""
        run, stop = self.new_run(), self.work / "stop"
        readers = {
            (kind, i): forked(partial(read_until, stop, reading, self.work / f"{kind} {i}"))
            for kind, reading in readings(run, self.work).items()
            for i in range(OF_EACH)
        }
        errors = [self.work / f"errors {i}" for i in range(2)]
        writers = [in_process(self.begin(run), run, errors=file) for file in errors]
        said = self._judge_writers(run, writers, errors)
        stop.touch()
        for (kind, i), pid in readers.items():
            if code_of(pid) != 0:
                self.wrong.append(f"{kind} {i}: died of an error that is none of ours, or silently")
                continue
            outcomes = json.loads((self.work / f"{kind} {i}").read_text(encoding="utf-8"))
            self.readings[kind] = self.readings.get(kind, Outcome()) + Outcome(outcomes["all"])
            self.wrong += [f"{kind} {i}: {wrong}" for wrong in outcomes["wrong"]]
        self.wrong += said
        if differing := self.differences(run):
            self.wrong.append(f"the run differs in {', '.join(differing)}")

    def _judge_writers(self, run: Path, writers: list[int], errors: list[Path]) -> list[str]:
        """Wait for the writers, and try to resume the run meanwhile; what went wrong."""
        wrong, codes = [], dict[int, int]()
        while len(codes) < len(writers):
            for pid in (pid for pid in writers if pid not in codes):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            left = [pid for pid in writers if pid not in codes]
            if len(left) == 1 and list(codes.values()) == [REFUSED]:
                wrong += self._third_writer(run, left[0])
            sleep(0.02)
        if sorted(codes.values()) != [ENDED, REFUSED]:
            wrong.append(f"the writers ended with {sorted(codes.values())}")
        winner = next((pid for pid, code in codes.items() if code == ENDED), None)
        for pid, file in zip(writers, errors, strict=True):
            said = file.read_text(encoding="utf-8")
            begun = f"error: --out: {run} exists already; give a new directory"  # if it comes after a checkpoint
            if pid != winner and not is_refusal(said, run, winner) and not said.startswith(begun):
                wrong.append(f"the second writer said {said!r}")
        return wrong

    def _third_writer(self, run: Path, writer: int) -> list[str]:
        """Try to resume a run that is being written, in a process of its own; what went wrong."""
        errors = self.work / "errors of resume"
        code = code_of(in_process(["train", "--resume", str(run)], run, errors=errors))
        said = errors.read_text(encoding="utf-8")
        if code == REFUSED and is_refusal(said, run, writer):
            self.refusals += 1
            return []
        has_ended = os.waitid(os.P_PID, writer, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if code == ENDED and has_ended:  # before this one looked
            return []
        return [f"--resume during the run: exit {code}, saying {said!r}"]


def is_refusal(said: str, run: Path, writer: int | None) -> bool:
    """Tell whether a process was refused in one line that names the directory and the process that writes there."""
    return said == f"error: run: {run} is being written by process {writer}; wait for its end\n"


def readings(run: Path, work: Path) -> dict[str, Callable[[], object]]:
    """The five ways to read a run, each of which returns when it worked."""
    figures = work / "figures of readers"
    return {
        "evaluate": partial(command, "evaluate", run),
        "generate": partial(command, "generate", run, "--prompt", "the", "--max-new-tokens", 3),
        "plot": partial(command, "plot", run, "--out", figures),
        "info": partial(command, "info", run),
        "load_pretrained": partial(load_pretrained, run),
    }


class FailedError(Exception):
    """A command's error, as it was printed."""


def command(*argv: object) -> None:
    """Run a command.  Raises FailedError if it does not work."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in argv])
    if code != ENDED or not out.getvalue():
        raise FailedError(f"exit {code}: {err.getvalue()}")


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a process, which ends with 0 if nothing is raised; returns its number."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def read_until(stop: Path, reading: Callable[[], object], report: Path) -> None:
    """Read until a file is there, and once more; report outcomes, and what went wrong."""
    outcomes, wrong, last = Outcome(), list[str](), False
    while not last:
        sleep(PAUSE)
        last = stop.exists()
        try:
            reading()
            outcomes["worked"] += 1
            continue
        except (FailedError, InputError, RunError) as error:
            said = str(error).strip()
        outcomes[said.partition("; ")[0]] += 1
        if last or "\n" in said or not said.startswith(IN_ONE_LINE):
            wrong.append(said)
    report.write_text(json.dumps({"all": outcomes, "wrong": wrong}), encoding="utf-8")


def together(updates: int, work: Path) -> Together:
    """Let two writers and ten readers work in one directory."""
    trial = Together(work, updates)
    trial.run()
    return trial


def program() -> int:
    (updates,) = count_arguments(__doc__, N=300)
    with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
        trial = together(updates, Path(directory))
    print(f"{updates} updates; of other writers {trial.refusals + 1} were refused")
    for kind, outcomes in trial.readings.items():
        print(f"{kind:<16} worked {outcomes.pop('worked', 0)} times")
        for said, n in outcomes.most_common():
            print(f"{'':<16} {n} times {said.replace(directory, '')}")
    print(f"{len(trial.wrong)} went wrong")
    print("\n".join(trial.wrong))
    return bool(trial.wrong)


if __name__ == "__main__":
    sys.exit(program())
