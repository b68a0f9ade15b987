"""One rank of a training on the stand-in; rank 0 prints where hosts waited in the last updates, and for which GPUs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

import numpy as np
from mpi4py import MPI
from parallel.trainings import TypedRun, new_run
from standin.record import record

from nanograd_gpt.parallel.mpi_ranks import MPIRanks
from nanograd_gpt.parallel.nccl_ranks import NCCLRanks
from nanograd_gpt.parallel.ranks import Command
from nanograd_gpt.training import following

case = json.loads(sys.argv[1])
runs: list[TypedRun] = []
n_begun: list[int] = []  # waits before each update
whole = NCCLRanks.at_update


def at_update(ranks: NCCLRanks, step: int, state: Callable[[], Mapping[str, str]]) -> None:
    whole(ranks, step, state)
    n_begun.append(len(record.syncs))


class NotedRun(TypedRun):
    """A run that is noted."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]  # Run's own
        runs.append(self)


NCCLRanks.at_update = at_update  # type: ignore[method-assign]
following.Run = NotedRun  # type: ignore[misc]
TypedRun.numbers = np.dtype(case["dtype"])
ranks = MPIRanks(MPI.COMM_WORLD)
ranks.bucket_bytes = 4000
if ranks.rank == 0:
    runs.append(new_run(case, ranks))  # type: ignore[arg-type]  # it is a TypedRun
    ranks.sharded = case["sharded"]
    following.start_ranks(runs[0], wait_limit=30)
    for _ in runs[0].steps():
        pass
    runs[0].ranks.lead(Command.END)
else:
    following.follow(ranks, lambda: None)
waits = record.syncs[n_begun[1] : n_begun[-1]]  # the first update compares the ranks' states, the last ends a training
gpu = runs[0].model.parameters()[0].data.device.id  # type: ignore[attr-defined]  # of CuPy's arrays
found = MPI.COMM_WORLD.gather((waits, gpu, type(runs[0].ranks).__name__, record.operations.count("allReduce")))
ranks.watchdog.end()
if found is not None:
    print(json.dumps([*zip(*found, strict=True)]))
