"""Data-parallel training over several hosts: its sums and steps as measured, beside what a model says of them.

    python benchmarks/data_parallel.py [--rounds N] [--only PART]

The hosts are network namespaces of this machine with links of a limited rate, so root is needed, and MPICH with mpi4py
for all but the part "step".  Four hosts have this machine's two cores: links are slow enough that these do not limit
the sums, waiting ranks sleep, and a step's own phases are measured on as many hosts, without sums, in the same minute.
Goes to results/data_parallel.json.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

from harness import ROOT, THREAD_VARIABLES, new_parser, parsed, run, write

# isort: split
import numpy as np
from data_parallel_model import Step
from hosts import Hosts, missing
from setups import LARGE, QUICK

from nanograd_gpt import GPTModel, autograd, set_threads
from nanograd_gpt.bench.statistics import summary
from nanograd_gpt.bench.step import TrainStep, random_batch
from nanograd_gpt.errors import RunError
from nanograd_gpt.parallel.buckets import Buckets
from nanograd_gpt.parallel.final_gradients import FinalGradients
from nanograd_gpt.parallel.mpi_ranks import BUCKET_BYTES
from nanograd_gpt.rng import Generator

RANK = str(Path(__file__).with_name("data_parallel_rank.py"))
GIGABIT = 1e9  # bits per second
CHECKED_RATE = 1e8  # so slow that two cores do not limit four hosts' sums
STEP_RATE = 2e8
BY_RING = {"MPIR_CVAR_DEVICE_COLLECTIVES": "none", "MPIR_CVAR_IALLREDUCE_INTRA_ALGORITHM": "tsp_ring"}
BOTH_WAYS = {"UCX_RNDV_THRESH": "inf"}  # else what a peer needs before it can send waits behind what is sent to it
WAYS: dict[str, dict[str, str]] = {"ring": BY_RING, "halving": BOTH_WAYS, "MPICH's default": {}}
FITTED = [1 << k for k in range(12, 25, 2)]  # bytes: 4 KB to 16 MB
CHECKED = [4 << 20, 8 << 20, 16 << 20]
HOSTS = [2, 3, 4]
BATCHES = [1, 2, 4]  # of windows, of the step that is projected
MOST_STEPS = 3  # each takes seconds
MODEL = "256 8 32 64"  # width, layers, batch and length: over 1 Gbit/s, sums take less than the backward pass


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=5)
    parser.add_argument("--only", choices=PARTS, help="one part; others keep their stored result")
    options = parsed(parser, argv)
    chosen = list(PARTS) if options.only is None else [options.only]
    if chosen != ["step"] and (why := missing()) is not None:
        raise RunError(f"hosts: {why}; --only step needs none")
    stored = options.out / "data_parallel.json"
    parts = json.loads(stored.read_text(encoding="utf-8"))["parts"] if options.only and stored.exists() else {}
    for part in chosen:
        print(part, flush=True)
        parts[part] = PARTS[part](options)
    write(options, "data_parallel.json", {"parts": {name: parts[name] for name in PARTS if name in parts}})
    return 0


def on_hosts(n: int, rate: float | None, *work: object, settings: Mapping[str, str]) -> Any:
    """Measure on the ranks of n hosts; rate in bits per second."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": path, **dict.fromkeys(THREAD_VARIABLES, "1"), **settings}
    with Hosts(n, rate) as hosts:
        return json.loads(hosts.run(sys.executable, RANK, *map(str, work), seconds=600, env=variables))


def sums_on(
    n: int, rate: float | None, rounds: int, sizes: Sequence[int], settings: Mapping[str, str]
) -> dict[str, Any]:
    """Seconds of sums of some sizes over n hosts; the slowest rank's, of each round."""
    seconds = on_hosts(n, rate, "sums", rounds, *sizes, settings=settings)["seconds"]
    for size, times in seconds.items():
        print(f"  {n} hosts, {int(size):>10,} bytes: {1e3 * min(times):9.2f} ms", flush=True)
    return {"hosts": n, "bits_per_second": rate, "seconds": seconds}


def fit(options: Namespace) -> dict[str, Any]:
    """Sums over two hosts with a link of 1 Gbit/s, and without a limit."""
    sizes = FITTED[3:5] if options.quick else FITTED
    return {
        name: sums_on(2, rate, 4 * options.rounds, sizes, BY_RING)
        for name, rate in (("limited", GIGABIT), ("unlimited", None))
    }


def check(options: Namespace) -> list[dict[str, Any]]:
    """Sums over 2, 3 and 4 hosts in each way."""
    hosts, sizes = ([2], [1 << 16]) if options.quick else (HOSTS, CHECKED)
    found = []
    for way, settings in WAYS.items():
        print(f" {way}", flush=True)
        found += [{"way": way, **sums_on(n, CHECKED_RATE, options.rounds, sizes, settings)} for n in hosts]
    return found


def steps(options: Namespace) -> list[dict[str, Any]]:
    """Train steps over 2, 3 and 4 hosts, with sums after the backward pass, during it, and none."""
    found, sizes = [], "64 2 2 16" if options.quick else MODEL
    for n, rate in [(2, GIGABIT)] if options.quick else [(2, GIGABIT), *((n, STEP_RATE) for n in HOSTS)]:
        facts = on_hosts(n, rate, "steps", options.rounds, *sizes.split(), settings=BY_RING)
        found.append({"hosts": n, "bits_per_second": rate, **facts})
        waits = {way: summary([step["wait"] for step in taken]).median for way, taken in facts["ways"].items()}
        print(f"  {n} hosts, {rate:.0e} bit/s: waits", {way: round(wait, 4) for way, wait in waits.items()}, flush=True)
    return found


def step(options: Namespace) -> dict[str, Any]:
    """A step of one process by its tokens, and when each bucket's gradient is final.

    The CPU time of one thread over the number of threads: other processes hardly disturb it.
    """
    setup = QUICK if options.quick else LARGE
    set_threads(1)
    model = GPTModel(setup.config, rng=Generator(1))
    found = {}
    for batch in BATCHES:
        work = TrainStep(model, random_batch(setup.config, batch, setup.length))
        taken = [measured_step(work, options.threads) for _ in range(min(options.rounds, MOST_STEPS) + 1)]
        fastest = min(taken, key=lambda one: one.seconds)
        print(f"  {batch * setup.length} tokens: {fastest.seconds:.3f} s", flush=True)
        found[batch * setup.length] = vars(fastest)
    return {"setup": setup.facts(), "steps": found}


def measured_step(work: TrainStep, threads: int) -> Step:
    """Take one step."""
    optimizer, ready = work.optimizer, list[float]()
    buckets = Buckets(optimizer.flat, lambda _: ready.append(process_time()), BUCKET_BYTES)
    times = [process_time()]
    loss = work.model.loss(work.ids, work.targets)
    times.append(process_time())
    assert loss.node is not None  # as the parameters are trained
    autograd.backward(loss.node, loss.data * 0 + 1, FinalGradients(loss.node, buckets.final).delivered)
    times.append(process_time())
    buckets.send_rest()
    optimizer.step()
    optimizer.zero_grad()
    times.append(process_time())
    forward, backward, update = np.diff(times) / threads
    return Step(
        forward=float(forward),
        backward=float(backward),
        optimizer=float(update),
        ready=[(time - times[1]) / threads for time in ready],
        nbytes=[int(optimizer.flat.grad[part].nbytes) for part in buckets.slices],
    )


PARTS: dict[str, Callable[[Namespace], Any]] = {"fit": fit, "check": check, "steps": steps, "step": step}


if __name__ == "__main__":
    sys.exit(run(main))
