"""One rank of trainings: [case, ...] as JSON; rank 0 prints what each was, and whether all ranks have the same bits."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import wrong_designs
from mpi4py import MPI
from parallel.trainings import TypedRun, bits, new_run, trained

from nanograd_gpt.errors import RunError
from nanograd_gpt.parallel.mpi_ranks import MPIRanks
from nanograd_gpt.training import following

runs: list[TypedRun] = []


class NotedRun(TypedRun):
    """A run that is noted, and is of the present case's design: the other ranks make theirs of what rank 0 sends."""

    design: str | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        wrong_designs.spoil(self.design, self)
        runs.append(self)


following.Run = NotedRun
results = []
for case in json.loads(sys.argv[1]):
    design = NotedRun.design = case.get("wrong")
    TypedRun.numbers = np.dtype(case["dtype"])
    ranks = wrong_designs.DESIGNS.get(design, MPIRanks)(MPI.COMM_WORLD)
    ranks.bucket_bytes = 4000  # several of this model
    ranks.agree_every = case.get("agree_every", 10)
    found: dict[str, Any] = {}
    try:
        if ranks.rank == 0:
            run = new_run(case, ranks)
            wrong_designs.spoil(design, run)
            ranks.sharded = case["sharded"]
            following.start_ranks(run, wait_limit=30)
            found = {**trained(run, case), "moments": run.optimizer.exp_avg.size}
        else:
            following.follow(ranks, lambda: None)
            run = runs[-1]
        found["same"] = len(set(MPI.COMM_WORLD.allgather(bits(run)))) == 1
    except RunError as error:  # on all ranks, from a comparison of their states
        found["error"] = str(error)
    results.append(found)
    ranks.watchdog.end()
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps(results))
