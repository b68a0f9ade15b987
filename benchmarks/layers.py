"""Each layer of the 124M model alone, forward and backward, compared with the best eager PyTorch.

    python benchmarks/layers.py [--rounds N]

Goes to results/layers.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from harness import WARM_UP, contenders, new_parser, parsed, run, steps_a_sample, take_turns, totals, write
from setups import LARGE, QUICK

from nanograd_gpt.bench.statistics import paired_ratio

LAYERS = ["Embedding", "LayerNorm", "MultiHeadAttention", "FeedForward", "Linear", "Dropout", "head and loss"]


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=9), argv, "torch")
    setup = QUICK if options.quick else LARGE
    samples: dict[str, Any] = {}
    with contenders(["our_layers", "pytorch_layers"], options.threads) as running:
        for contender in running.values():
            contender.ask("prepare", config=setup.config.to_dict(), batch_size=setup.batch_size, length=setup.length)
        for layer in LAYERS:
            for contender in running.values():
                contender.ask("choose", layer=layer)
                contender.ask("steps", n=WARM_UP)
            samples[layer] = take_turns(running, options.rounds, "steps", n=steps_a_sample(running))
            ours, theirs = map(totals, samples[layer].values())
            print(f"  {layer:<20} ours / PyTorch: {paired_ratio(ours, theirs)}", flush=True)
        versions = [contender.ask("quit")["versions"] for contender in running.values()]
    facts = {
        "setup": setup.facts(),
        "samples": samples,
        "versions": {k: v for each in versions for k, v in each.items()},
    }
    write(options, "layers.json", facts)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
