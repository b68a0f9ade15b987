"""Damage files of every kind at random, and load each: PYTHONPATH=.:tests python -m fuzz.run COUNT [SEED].

Every load must end with the right result or with an error in words.  Counted are tracebacks, other results where there
is a checksum, loads of more than a second of processor time, and those that take more memory than twice the file and
100 MB.  The same seed damages the same files in the same way.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import process_time
from types import FrameType

from count_argument import count_arguments
from fuzz.kinds import Kind, build, damaged

from nanograd_gpt.errors import InputError, RunError

SECONDS, HANG = 1.0, 30  # of processor time; of the clock
MEMORY = 100 << 20  # bytes, beside twice the file


@dataclass
class Summary:
    """The number of damaged files, how their loads ended, and a line for each that went wrong."""

    files: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = {name: self.ends[name] for name in ("refused", "loaded", *FAULTS)}
        return f"{self.files:,} damaged files: " + ", ".join(f"{n:,} {name}" for name, n in counts.items())


FAULTS = ("silently different", "tracebacks", "over a second", "over the memory")


class Hang(BaseException):
    """A load that does not end."""


def fuzz(count: int, seed: int, directory: Path) -> Summary:
    """Damage `count` files, each kind in turn, in a directory of its own; returns what happened."""
    kinds, summary = build(directory), Summary()
    right = [kind.load() for kind in kinds]
    before = signal.signal(signal.SIGALRM, _hang)
    for i in range(count):
        which = i % len(kinds)
        kind, random = kinds[which], Random(f"{seed} {i}")
        mutation = random.choice(kind.mutations)
        whole = kind.file.read_bytes()
        try:
            content = mutation(whole, random)
        except RecursionError:  # the damage is too deep to be written
            content = b"[" * 5000
        with damaged(kind, content):
            for fault in _loaded(kind, right[which], len(content), content == whole, summary.ends):
                name = getattr(mutation, "__name__", "mutation")
                summary.wrong.append(f"{kind.name}, {name}, file {i} of seed {seed}: {fault}")
        summary.files += 1
    signal.signal(signal.SIGALRM, before)
    return summary


def _loaded(kind: Kind, right: object, size: int, is_whole: bool, ends: Counter[str]) -> list[str]:
    """Load the damaged file; counts how it ended, and returns what went wrong."""
    wrong, before, started = [], _resident_after_reset(), process_time()
    signal.alarm(HANG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)
            result = kind.load()
        ends["loaded"] += 1
        if kind.has_checksum and result != right:
            ends["silently different"] += 1
            wrong.append("another result, and no error")
    except (InputError, RunError) as error:
        ends["refused"] += 1
        if is_whole or not str(error):
            wrong.append(f"refused without a reason: {error}")
    except BaseException as error:  # whatever reaches a user as a traceback, panics of Rust included
        if isinstance(error, KeyboardInterrupt):
            raise
        ends["tracebacks"] += 1
        wrong.append(f"{type(error).__name__}: {str(error)[:200]}")
    finally:
        signal.alarm(0)
    if (seconds := process_time() - started) > SECONDS:
        ends["over a second"] += 1
        wrong.append(f"{seconds:.1f} s")
    if (grown := _peak() - before) > 2 * size + MEMORY:
        ends["over the memory"] += 1
        wrong.append(f"{grown:,} bytes of memory for a file of {size:,}")
    return wrong


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang(f"still loading after {HANG} s")


def _resident_after_reset() -> int:
    """Set the kernel's record of the largest resident memory back to the present; returns it, 0 where not supported."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return 0
    return _peak()


def _peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def main(argv: list[str]) -> int:
    """Run the script; returns 1 if anything went wrong."""
    count, seed = count_arguments(__doc__, argv, COUNT=1000, SEED=0)
    with tempfile.TemporaryDirectory() as directory:
        summary = fuzz(count, seed, Path(directory))
    for line in summary.wrong:
        print(line)
    print(summary)
    return 1 if summary.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
