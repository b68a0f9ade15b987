"""Profile of a train step, 124M and small, with the limit of this machine for each line.

    python benchmarks/where_the_time_goes.py

Goes to results/profile_124m.json and results/profile_small.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from harness import WARM_UP, new_parser, parsed, run, write
from setups import LARGE, QUICK, SMALL, Setup

from nanograd_gpt import GPTModel
from nanograd_gpt.bench.machine import measured_machine
from nanograd_gpt.bench.profile import profiled_step
from nanograd_gpt.bench.step import TrainStep, random_batch
from nanograd_gpt.bench.table import COLUMNS, profile_cells, profile_metadata
from nanograd_gpt.tables import aligned


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=7), argv)
    for name, setup in (("124m", QUICK if options.quick else LARGE), ("small", SMALL)):
        facts = profiled(setup, options.rounds)
        print(*aligned([COLUMNS, *profile_cells(facts)]), sep="\n")
        write(options, f"profile_{name}.json", facts)
    return 0


def profiled(setup: Setup, rounds: int) -> dict[str, Any]:
    """The profile of one step of a setup."""
    step = TrainStep(GPTModel(setup.config), random_batch(setup.config, setup.batch_size, setup.length))
    for _ in range(WARM_UP):
        step.run()
    return {"setup": setup.facts(), **profile_metadata(profiled_step(step, rounds), measured_machine("cpu"))}


if __name__ == "__main__":
    sys.exit(run(main))
