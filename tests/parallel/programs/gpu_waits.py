"""Two ranks, the second of which is stopped while the first's host waits for its GPU, outside of any operation."""

from __future__ import annotations

import os
import signal
from time import monotonic, sleep

from mpi4py import MPI

from nanograd_gpt.parallel.mpi_ranks import MPIRanks

ranks = MPIRanks(MPI.COMM_WORLD)
ranks.watchdog.limit = 1.0
begun = monotonic()
MPI.COMM_WORLD.Barrier()
with ranks.waiting("the sum of gradients"):
    pass
if ranks.rank:
    os.kill(os.getpid(), signal.SIGSTOP)
ranks.watchdog.queued = lambda: begun
sleep(30)
