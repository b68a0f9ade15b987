"""The part of a run's time that measuring its layers and taking its snapshots takes, and what a tape leaves behind.

    python benchmarks/watching.py [--rounds N]

Updates with and without the measurement take turns in one process (A B, B A, ...), on the same model.  The share is
what the measured updates of a run take more, at the default of --watch-every, and its three snapshots, beside all
updates of the run.  Updates after a tape (nanograd_gpt.record) has ended take turns with others too, by the CPU time of
one thread: nothing of the tape is left, so they take as long.  Goes to results/watching.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any

from harness import new_parser, parsed, run, write

from nanograd_gpt import record
from nanograd_gpt.backend.cpu.threads import n_threads, set_threads
from nanograd_gpt.bench.statistics import interleaved, summary
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.layer_scales import with_layer_scales
from nanograd_gpt.training.loop import make_update
from nanograd_gpt.training.metrics import MetricsLog
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.snapshots import Snapshots

PRESETS = ("tales", "tiny")
N_SNAPSHOTS = 3


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=200), argv)
    set_threads(options.threads)
    runs = {name: measured(name, 2 if options.quick else options.rounds) for name in PRESETS}
    for name, costs in runs.items():
        print(
            f"  {name}: an update takes {1e3 * costs['plain']:.2f} ms, measured {1e3 * costs['watched']:.2f} ms; "
            f"{N_SNAPSHOTS} snapshots {costs['snapshots']:.2f} s: {share(costs):.2%} of {costs['updates']} updates; "
            f"after a tape {costs['after_a_tape']:.4f} of before"
        )
    write(options, "watching.json", {"runs": runs})
    return 0


def share(costs: dict[str, Any]) -> float:
    more = (costs["watched"] - costs["plain"]) * costs["updates"] / costs["watch_every"]
    return float((more + costs["snapshots"]) / (costs["plain"] * costs["updates"]))


def measured(name: str, rounds: int) -> dict[str, Any]:
    """The median seconds of an update, plain and measured, and of a run's snapshots."""
    trained = Run(preset(name), "cpu")
    t, loader = trained.config.training, trained.train_loader
    update = make_update(trained.model, trained.optimizer, "cpu", None)
    batches = cycle([*loader.batches(loader.draw_order())][:50])
    trained.model.train()
    with TemporaryDirectory() as folder, MetricsLog(Path(folder) / "metrics.jsonl") as log:

        def plain() -> None:
            update([next(batches)], t.max_norm)

        def watched() -> None:
            _, scales = with_layer_scales(trained.model, plain)
            log.write("layers", step=0, epoch=1, tokens=0, **scales.event())

        both: dict[str, Callable[[], None]] = {"plain": plain, "watched": watched}
        for each in both.values():
            each()  # warm-up
        seconds: dict[str, list[float]] = {each: [] for each in both}
        for order in interleaved([*both], rounds):
            for each in order:
                seconds[each].append(timed(both[each]))
        snapshots = [timed(Snapshots(trained, Path(folder)).take) for _ in range(N_SNAPSHOTS)]
    medians = {each: summary(samples).median for each, samples in seconds.items()}
    costs = {**medians, "snapshots": sum(snapshots), "updates": trained.total_steps, "watch_every": t.watch_every}
    return {**costs, "after_a_tape": after_a_tape(plain, rounds)}


def after_a_tape(update: Callable[[], None], rounds: int) -> float:
    """The time of an update after a tape has ended, divided by that of one before it."""
    threads = n_threads()
    set_threads(1)
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    for order in interleaved([*seconds], rounds):
        for each in order:
            with record() if each == "after" else nullcontext():
                update()
            seconds[each].append(timed(update, thread_time))
    set_threads(threads)
    return summary(seconds["after"]).median / summary(seconds["before"]).median


def timed(function: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    begun = clock()
    function()
    return clock() - begun


if __name__ == "__main__":
    sys.exit(run(main))
