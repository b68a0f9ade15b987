"""Time of a train step by batch, context, width, layers and threads, compared with the best eager PyTorch.

    python benchmarks/scaling.py [--rounds N]

One size is changed at a time.  Goes to results/scaling.json.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness import new_parser, parsed, run, write
from setups import QUICK, Setup
from train_step import compared

from nanograd_gpt.gpt.config import GPTConfig

MIDDLE = Setup(GPTConfig(2048, 128, 256, 4, 4, 0.1), 4, 128)


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=5), argv, "torch")
    base, factors = (QUICK, [2]) if options.quick else (MIDDLE, [0.25, 0.5, 1, 2, 4])
    points = []
    for axis, value, setup, threads in axes(base, factors, options.threads):
        print(f"{axis} {value}")
        facts = compared(setup, ["ours", "best"], options.rounds, threads, with_itself=False)
        points.append({"axis": axis, "value": value, **{name: facts[name] for name in ("setup", "samples", "losses")}})
    write(options, "scaling.json", {"base": base.facts(), "points": points, "versions": facts["versions"]})
    return 0


def axes(base: Setup, factors: Sequence[float], threads: int) -> Iterator[tuple[str, int, Setup, int]]:
    """Yield the name of the changed size, its value, the setup, and the threads."""
    cfg = base.config
    for factor in factors:
        batch = max(1, int(base.batch_size * factor))
        yield "batch", batch, replace(base, batch_size=batch), threads
    for factor in factors:
        length = int(base.length * factor)
        yield "context", length, replace(base, config=replace(cfg, context_length=length), length=length), threads
    for factor in factors:
        width = int(cfg.emb_dim * factor)
        yield "width", width, replace(base, config=replace(cfg, emb_dim=width)), threads
    for factor in factors:
        layers = max(1, int(cfg.n_layers * factor))
        yield "layers", layers, replace(base, config=replace(cfg, n_layers=layers)), threads
    for n in range(1, (os.cpu_count() or 1) + 1):
        yield "threads", n, base, n


if __name__ == "__main__":
    sys.exit(run(main))
