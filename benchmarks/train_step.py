"""The train step compared with PyTorch: the book's eager code, the best eager variant, and that one compiled.

    python benchmarks/train_step.py [--only 124m|small] [--rounds N]

Refuses to time contenders whose losses differ, before and after one update.  First, nanograd_gpt runs against itself.
Samples go to results/train_124m.json and results/train_small.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isfinite
from typing import Any

from harness import (
    WARM_UP,
    Contender,
    ContenderError,
    agree,
    contenders,
    new_parser,
    parsed,
    report,
    run,
    same_twice,
    steps_a_sample,
    take_turns,
    weights_of,
    write,
)
from setups import LARGE, QUICK, SMALL, Setup

OTHERS = ["document", "best", "compiled"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=0)
    parser.add_argument("--only", choices=["124m", "small"], help="run one of the two only")
    options = parsed(parser, argv, "torch")
    setups = {"124m": (QUICK if options.quick else LARGE, 7), "small": (SMALL, 15)}
    for name, (setup, rounds) in setups.items():
        if options.only in (None, name):
            facts = compared(setup, ["ours", *OTHERS], options.rounds or rounds, options.threads)
            write(options, f"train_{name}.json", facts)
    return 0


def compared(setup: Setup, names: Sequence[str], rounds: int, threads: int, with_itself: bool = True) -> dict[str, Any]:
    """Samples of a train step by each contender, "ours" first."""
    facts: dict[str, Any] = {"setup": setup.facts(), "rounds": rounds, "failures": {}}
    print(facts["setup"])
    with weights_of(setup) as weights:
        if with_itself:
            with contenders(["ours", "ours again"], threads) as running:
                ready(running, setup, weights, facts)
                facts["same_twice"] = take_turns(running, rounds, "steps", n=steps_a_sample(running))
                ratio = same_twice(facts["same_twice"])
                facts["too_noisy"] = ratio.too_noisy
                print(f"  ours / ours again: {ratio}{': too noisy' if ratio.too_noisy else ''}")
        with contenders(names, threads) as running:
            facts["losses"] = ready(running, setup, weights, facts)
            facts["steps_a_sample"] = steps_a_sample(running)
            facts["samples"] = take_turns(running, rounds, "steps", n=facts["steps_a_sample"])
            ends = {name: contender.ask("quit") for name, contender in running.items()}
    facts["versions"] = {package: v for end in ends.values() for package, v in end["versions"].items()}
    report(facts["samples"])
    return facts


def ready(running: dict[str, Contender], setup: Setup, weights: str, facts: dict[str, Any]) -> dict[str, list[float]]:
    """Prepare, check and warm up; returns the losses, which agree.  A contender that fails is recorded and left out."""
    losses, batches = {}, setup.batches()
    for name, contender in list(running.items()):
        try:
            contender.ask("prepare", config=setup.config.to_dict(), weights=weights, batches=batches)
            losses[name] = contender.ask("check")["losses"]
            if not all(map(isfinite, losses[name])):
                raise ContenderError(f"{name}: its losses are {', '.join(map(str, losses.pop(name)))}")
            for _ in range(WARM_UP):
                contender.ask("steps", n=1)
        except ContenderError as failure:
            if name == "ours":
                raise
            facts["failures"][name] = str(failure)
            print(f"  {failure}")
            running.pop(name).close()
    agree(losses)
    return losses


if __name__ == "__main__":
    sys.exit(run(main))
