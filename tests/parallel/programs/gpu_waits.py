"""Two ranks, the first of which waits for its GPU outside of any operation.

The argument is `stopped`, which the second rank then is, or `slow`: both end once it has answered twice.
"""

from __future__ import annotations

import os
import signal
import sys
from time import monotonic, sleep

from mpi4py import MPI

from nanograd_gpt.parallel.mpi_ranks import MPIRanks

ranks = MPIRanks(MPI.COMM_WORLD)
watchdog = ranks.watchdog
watchdog.limit = 0.5
begun, ask, asked = monotonic(), watchdog._silent, 0


def counted() -> list[int]:
    global asked
    silent = ask()
    asked += 1
    return silent


watchdog._silent = counted  # type: ignore[method-assign]
with ranks.waiting("the sum of gradients"):
    MPI.COMM_WORLD.Barrier()
if ranks.rank and sys.argv[1] == "stopped":
    os.kill(os.getpid(), signal.SIGSTOP)
if ranks.rank == 0:
    watchdog.queued = lambda: begun
    while asked < 2 or sys.argv[1] == "stopped":
        sleep(0.01)
    watchdog.queued = lambda: None
with ranks.waiting("the end"):
    MPI.COMM_WORLD.Barrier()
watchdog.end()
