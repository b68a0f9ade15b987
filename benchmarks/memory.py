"""Peak memory (RSS) of a process that does one thing only.

    python benchmarks/memory.py

Three train steps of 124M by nanograd_gpt, the book's code and the best eager PyTorch; nanograd_gpt alone for a step of
355M, for generation and for evaluation.  Goes to results/memory.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness import Contender, new_parser, parsed, run, write
from setups import LARGE, LARGER, QUICK, Setup

PROMPT = [6109, 3626, 6100, 345]  # "Every effort moves you"


class Job(NamedTuple):
    """The work of one process."""

    name: str
    contender: str
    setup: Setup
    do: str
    request: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=1), argv, "torch")
    jobs = quick_jobs() if options.quick else JOBS
    facts = {job.name: [measured(job, options.threads) for _ in range(options.rounds)] for job in jobs}
    for job in jobs:
        print(f"  {job.name:<34} {max(facts[job.name]) / 1e6:10,.0f} MB")
    setups = {job.name: job.setup.facts() for job in jobs}
    write(options, "memory.json", {"peak_bytes": facts, "setups": setups})
    return 0


def measured(job: Job, threads: int) -> int:
    """The peak of a fresh process, in bytes."""
    contender = Contender(job.contender, threads)
    try:
        contender.ask("prepare", config=job.setup.config.to_dict(), weights=None, batches=job.setup.batches())
        contender.ask(job.do, **job.request)
        peak: int = contender.ask("quit")["peak_memory"]
        return peak
    finally:
        contender.close()


def training(contender: str, setup: Setup, steps: int) -> Job:
    return Job(f"train, {contender}", contender, setup, "steps", {"n": steps})


JOBS = [
    training("ours", LARGE, 3),
    training("document", LARGE, 3),
    training("best", LARGE, 3),
    Job("train 355M, ours", "ours", LARGER, "steps", {"n": 1}),
    Job("generate, ours", "ours", LARGE, "generate", {"ids": PROMPT, "n": 50}),
    Job("evaluate, ours", "ours", LARGE, "evaluate", {}),
]


def quick_jobs() -> list[Job]:
    """All jobs, on a very small model."""
    small = [job._replace(setup=QUICK) for job in JOBS]
    return [j._replace(request={"ids": [1, 2, 3, 4], "n": 5}) if j.do == "generate" else j for j in small]


if __name__ == "__main__":
    sys.exit(run(main))
