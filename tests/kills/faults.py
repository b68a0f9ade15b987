"""Let every file operation of a training fail, with each kind of error; each run must say so and go on to its end.

    python tests/kills/faults.py [N]

Before its k-th file operation, for every k in turn until N runs [300], a run gets an OSError in place of the operation:
no space, an I/O error, denied, over quota, interrupted; every fourth run, a real one, of a limit on the size of files.
It must end in one line without a traceback, or well; and then be resumed to the reference's bits.  No run may be lost.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from trial import ENDED, Trial, arguments, code_of, continuation, count_arguments, in_process, memory_disk

KINDS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EINTR]
ALLOWED_CODES = (0, 1, 2)
LARGEST_FILE = 100_000  # bytes; a checkpoint has larger ones
REAL = 4  # every so many runs


class Faults(Trial):
    """Runs in which a file operation fails."""

    ended = 0  # by the fault, with an error

    def fail(self, at: int, kind: int | None) -> None:
        """Let one operation of a new run fail, or with kind None writes beyond a random size; go on, and compare."""
        run, errors = self.new_run(), self.work / "errors"
        what = f"operation {at} fails with {errno.errorcode[kind]}" if kind else "a file becomes too large"
        limit = None if kind else self.random.randrange(LARGEST_FILE)

        def before(operation: int) -> None:
            if limit is not None and operation == 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            elif kind and operation == at:
                raise OSError(kind, os.strerror(kind), str(run / "a file"))

        code = code_of(in_process(arguments(run, self.data), run, before, errors))
        said = errors.read_text(encoding="utf-8")
        self.ended += code != ENDED
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        if code not in ALLOWED_CODES or "Traceback" in said or (code and len(lines) != 1):
            self.wrong.append(f"{what}: exit {code}, saying {said[-300:]!r}")
        code = code_of(in_process(continuation(run, self.data), run, errors=errors))
        if code != ENDED:
            self.wrong.append(f"{what}: cannot go on: {errors.read_text(encoding='utf-8')!r}")
        elif differing := self.differences(run):
            self.wrong.append(f"{what}: differs in {', '.join(differing)}")
        else:
            shutil.rmtree(run)


def failed(n: int, seed: int, work: Path) -> Faults:
    """Let n runs fail: every operation in turn, with each kind of error."""
    trial = Faults(work, seed)
    step = max(1, trial.operations // n)
    for i in range(n):
        trial.fail(i * step % trial.operations, None if i % REAL == REAL - 1 else KINDS[i % len(KINDS)])
    return trial


def program() -> int:
    (n,) = count_arguments(__doc__, N=300)
    with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
        trial = failed(n, seed=n, work=Path(directory))
    counts = f"{trial.operations} file operations; {n} faults, of which {trial.ended} ended the run"
    print(f"{counts}; {len(trial.wrong)} went wrong")
    print("\n".join(trial.wrong))
    return bool(trial.wrong)


if __name__ == "__main__":
    sys.exit(program())
