"""A command in several processes that mpiexec started: rank 0 runs it, and the others follow a training."""

from __future__ import annotations

import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from time import sleep

from ..backend.cpu.threads import set_threads
from ..errors import Notice, RunError
from ..parallel.launched import Launched, mpi_ranks
from ..parallel.mpi_ranks import MPIRanks
from ..parallel.ranks import DisagreementError, Ranks
from ..training.following import follow
from .exit_code import exit_code_of
from .signals import ONCE_IN, Signals

LEFT_TO_RANK_0 = 3.0  # seconds


def run_together(place: Launched, command: Callable[[Ranks], int]) -> int:
    """Join the processes and run a command; returns this one's exit code.  An error in one of them ends all."""
    joined: list[MPIRanks] = []
    code = exit_code_of(partial(_join, place, joined))
    if not joined:
        return code
    ranks = joined[0]
    try:
        if ranks.rank == 0:
            code = exit_code_of(partial(command, ranks))
        else:
            code = exit_code_of(partial(_follow, ranks), f"rank {ranks.rank} on {socket.gethostname()}: ")
    except SystemExit as end:  # of --help and --version
        code = int(end.code or 0)
    except BaseException:  # an error of ours, after whose traceback the others must not wait for ever
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    ranks.end(code)
    return code


def _join(place: Launched, joined: list[MPIRanks]) -> int:
    try:
        ranks = mpi_ranks(place)
    except RunError:
        if place.rank > 0:  # one line is enough
            return 1
        raise
    if "NANOGRAD_THREADS" not in os.environ:
        set_threads(ranks.threads)
    joined.append(ranks)
    return 0


def _follow(ranks: MPIRanks) -> int:
    warnings.simplefilter("ignore", Notice)  # rank 0 says it
    try:
        with Signals(lambda _: None, once_in=ONCE_IN) as signals:
            return follow(ranks, lambda: signals.received)
    except (KeyboardInterrupt, DisagreementError) as error:  # rank 0 has it too, says it, and ends all
        sleep(LEFT_TO_RANK_0)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
