"""Quality of the tales that trained models write: grammar, and agreement with what stood before.

    python benchmarks/tale_scores.py [--only NAME]

The default run with three seeds, and ten minutes of it, each judged by 200 tales.  Goes to results/tales.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from harness import new_parser, parsed, run, write

from nanograd_gpt import set_threads
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.tale_test import TaleTest

N_TALES = 200
RUNS: dict[str, dict[str, Any]] = {f"default run, seed {seed}": {"seed": seed} for seed in (123, 1, 2)}
RUNS["ten minutes"] = {"epochs": 50, "eval_freq": 4000}


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=1)
    parser.add_argument("--only", choices=RUNS, help="one run; the others keep their stored results")
    options = parsed(parser, argv)
    set_threads(options.threads)
    chosen = RUNS if options.only is None else {options.only: RUNS[options.only]}
    stored = options.out / "tales.json"
    before = json.loads(stored.read_text(encoding="utf-8"))["runs"] if options.only and stored.exists() else {}
    found = {}
    for name, settings in chosen.items():
        found[name] = result = trained({**settings, **({"max_steps": 4, "warmup_steps": 1} if options.quick else {})})
        shares = ", ".join(f"{share:.1%} {what}" for what, share in shares_of(result).items())
        print(f"  {name}: {result['updates']:,} updates in {result['seconds']:.0f} s: {shares}", flush=True)
    runs = before | found
    write(options, "tales.json", {"runs": {name: runs[name] for name in RUNS if name in runs}})
    return 0


def shares_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The shares of sentences that are grammatical and consistent, and of tales that are copies."""
    score = result["score"]
    return {
        "grammatical": score["grammatical"] / score["sentences"],
        "consistent": score["consistent"] / score["tested"],
        "copied": score["copies"] / score["tales"],
    }


def trained(settings: dict[str, Any]) -> dict[str, Any]:
    """Train on tales, and judge what the model writes; the seconds are those of updates and evaluations."""
    training, started = Run(preset("tales").replace(settings), "cpu"), perf_counter()
    for _ in training.steps():
        pass
    seconds, evaluation = perf_counter() - started, training.evaluate()
    score = TaleTest(training).score(N_TALES)
    return {
        "settings": settings,
        "updates": training.progress.global_step + 1,
        "seconds": round(seconds, 1),
        **evaluation._asdict(),
        "score": score._asdict(),
    }


if __name__ == "__main__":
    sys.exit(run(main))
