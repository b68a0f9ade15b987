"""All that only a GPU can show, in ten minutes: correctness, ceilings, kernels, the train step beside PyTorch's.

    python scripts/gpu_check.py [--second] [--only STEP ...] [--out FILE] [--dry-run]

Runs in a bare clone with NumPy, CuPy and PyTorch, without installing anything.  Each step is a process of its own with
a time limit; its results are appended to FILE as they come, one line of JSON each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryFile
from threading import Timer
from time import perf_counter, strftime
from typing import IO, Any, NamedTuple

from _one_line import Parser, UsageError, need, run, writable

STEPS = Path(__file__).parents[1] / "benchmarks" / "gpu"
RESULTS = Path("runs", "gpu_check.jsonl")


class Planned(NamedTuple):
    """A step: a script in benchmarks/gpu, and the seconds that it may take."""

    name: str
    limit: int


FIRST = [  # a machine may be lent for ten minutes at a time: the limits of each plan add up to no more
    Planned("installation", 20),
    Planned("correctness", 120),
    Planned("ceilings", 40),
    Planned("kernels", 40),
    Planned("train_step", 240),
    Planned("sanitizer", 130),
]
SECOND = [
    Planned("agreement", 100),
    Planned("memory", 120),
    Planned("generation", 90),
    Planned("kernels", 40),
    Planned("train_step", 240),
]
DRY_LIMIT = 240  # a simulated kernel is slow
KEPT = 2000  # characters of what a failed step printed last


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--second", action="store_true", help="the second ten minutes: agreement, bits, memory, generation"
    )
    parser.add_argument("--only", nargs="+", metavar="STEP", help=f"of {', '.join(names(FIRST + SECOND))} [all]")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="FILE", help=f"where results are appended [{RESULTS}]"
    )
    parser.add_argument("--dry-run", action="store_true", help="every step on the CPU, to check this script")
    options = parser.parse_args(argv)
    plan = SECOND if options.second else FIRST
    if options.only:
        plan = [step for step in dict.fromkeys(FIRST + SECOND) if step.name in options.only]
        if unknown := sorted({*options.only} - {*names(FIRST + SECOND)}):
            raise UsageError(f"--only: {unknown[0]!r} is unknown; choose from {', '.join(names(FIRST + SECOND))}")
    if not options.dry_run:
        need("cupy")
    writable(options.out.resolve().parent)
    with options.out.open("a", encoding="utf-8") as results:
        failed = [step.name for step in plan if not passed(step, results, options.dry_run)]
    print(f"checked: {len(plan) - len(failed)} of {len(plan)} steps; results are in {options.out}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def names(plan: Sequence[Planned]) -> list[str]:
    return list(dict.fromkeys(step.name for step in plan))


def passed(step: Planned, results: IO[str], dry_run: bool) -> bool:
    """Run a step; write its results, and at its end how it ended.  False if it failed or ran out of time."""

    def write(**facts: Any) -> None:
        results.write(json.dumps({"step": step.name, **facts}) + "\n")
        results.flush()

    command = [sys.executable, str(STEPS / f"{step.name}.py"), *(["--dry-run"] if dry_run else [])]
    limit, started = DRY_LIMIT if dry_run else step.limit, perf_counter()
    ok, n = True, 0
    with TemporaryFile("w+") as errors, subprocess.Popen(command, stdout=PIPE, stderr=errors, text=True) as process:
        timer = Timer(limit, process.kill)
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            n, ok = n + 1, shown(step.name, line, write) and ok
        code = process.wait()
        timer.cancel()
        errors.seek(0)
        last_words = errors.read()[-KEPT:]
    seconds = perf_counter() - started
    late = seconds >= limit
    ended = {"ended": strftime("%Y-%m-%dT%H:%M:%S"), "code": code, "seconds": round(seconds, 1), "late": late}
    write(**ended, dry_run=dry_run, results=n, **({"stderr": last_words} if code else {}))
    print(f"{step.name}: {n} results in {seconds:.0f} s{', stopped at its limit' * late}, exit code {code}", flush=True)
    if code and last_words.strip():
        print(f"  {last_words.strip().splitlines()[-1]}", flush=True)
    return ok and code == 0 and not late


def shown(step: str, line: str, write: Any) -> bool:
    """Write and print one result; False if it is an error, or says that something does not hold."""
    try:
        facts = json.loads(line)
    except ValueError:
        facts = {"what": "output", "text": line.rstrip("\n")}
    write(**facts)
    print(f"  {step}: {line.rstrip()[:200]}", flush=True)
    return "error" not in facts and facts.get("holds", True) and not facts.get("code")


if __name__ == "__main__":
    sys.exit(run(main))
