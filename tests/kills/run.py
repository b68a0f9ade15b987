"""Kill runs at every file operation of a training and at random instants; each must go on to the same end.

    python tests/kills/run.py [N]

A small run that is never stopped is the reference.  Others are killed by SIGKILL, before their k-th file operation for
every k, and after random times until N were killed [400]; a third of those that are resumed are killed again.  Each is
then resumed to its end, where weights, moments, random streams, metrics and samples must be the reference's, bit by
bit, and no other file may lie in its directory.  Each run is a process of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import sleep

from trial import ENDED, Trial, arguments, code_of, continuation, count_arguments, in_process, memory_disk

ATTEMPTS = 20


class Kills(Trial):
    """Runs that are killed, resumed and compared with the reference."""

    kills = 0

    def kill(self, kill_at: int | None) -> None:
        """Kill a new run before a file operation, or at a random instant, resume it to its end, and compare."""
        run = self.new_run()
        place = "at a random instant" if kill_at is None else f"before file operation {kill_at}"
        self._attempt(arguments(run, self.data), run, kill_at)
        for _ in range(ATTEMPTS):
            argv = continuation(run, self.data)
            again = self.random.choice([None, self.random.randrange(self.operations)])
            if self.random.random() < 1 / 3:
                self._attempt(argv, run, again)
                continue
            code = code_of(in_process(argv, run))
            if code != ENDED:
                self.wrong.append(f"{place}: exit {code} of {' '.join(argv[:3])}")
                return
            break
        if differing := self.differences(run):
            self.wrong.append(f"{place}: differs in {', '.join(differing)}")
            return
        shutil.rmtree(run)

    def _attempt(self, argv: list[str], run: Path, kill_at: int | None) -> None:
        pid = in_process(argv, run, lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == kill_at else None)
        if kill_at is None:
            sleep(self.random.random() * self.seconds)
            os.kill(pid, signal.SIGKILL)
        self.kills += code_of(pid) == -signal.SIGKILL


def killed(n: int, seed: int, at: Callable[[int], list[int]], work: Path) -> Kills:
    """Kill at the file operations that `at` chooses of their number, then at random instants until n were killed."""
    trial = Kills(work, seed)
    for kill_at in at(trial.operations):
        trial.kill(kill_at)
    while trial.kills < n:
        trial.kill(None)
    return trial


def program() -> int:
    (n,) = count_arguments(__doc__, N=400)
    with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
        trial = killed(n, seed=n, at=lambda operations: list(range(operations)), work=Path(directory))
    print(
        f"{trial.operations} file operations; {trial.kills} kills in {trial.runs} runs; {len(trial.wrong)} went wrong"
    )
    print("\n".join(trial.wrong))
    return bool(trial.wrong)


if __name__ == "__main__":
    sys.exit(program())
