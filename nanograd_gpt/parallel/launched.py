"""Processes that mpiexec started: their number, and MPI's communicator of them."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ..errors import RunError
from .mpi_ranks import MPIRanks

VARIABLES = ("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")  # MPICH's and Open MPI's
RING = {"MPIR_CVAR_IALLREDUCE_INTRA_ALGORITHM": "tsp_ring", "MPIR_CVAR_DEVICE_COLLECTIVES": "none"}
MOST_IN_RING = 16  # ranks; the rounds of a ring, two for each, take time of their own
INSTALL = "pip install 'nanograd-gpt[mpi]' mpich"


class Launched(NamedTuple):
    """The place of a process among those that a launcher started, known before MPI is loaded."""

    rank: int
    size: int
    by_open_mpi: bool


def launched() -> Launched | None:
    """The place of this process among several that mpiexec started; None for one alone."""
    for size, rank in VARIABLES:
        found = os.environ.get(size, ""), os.environ.get(rank, "")
        if all(text.isdecimal() for text in found) and int(found[0]) > 1:
            return Launched(rank=int(found[1]), size=int(found[0]), by_open_mpi=size.startswith("OMPI"))
    return None


def mpi_ranks(place: Launched) -> MPIRanks:
    """Load MPI, which joins the processes.  Raises RunError if it cannot, or if they do not find each other."""
    _prefer_ring(place.size)
    MPI = _loaded()
    library = " ".join(MPI.Get_library_version().split()[:2])
    other = (
        f"ranks: mpiexec started {place.size} processes that its MPI does not join, since mpi4py uses another: "
        f"{library.rstrip(',')}; start them with the mpiexec of that one"
    )
    if ("Open MPI" in library) != place.by_open_mpi:
        raise RunError(other)
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
    if MPI.COMM_WORLD.size != place.size:
        raise RunError(other)
    if MPI.Query_thread() != MPI.THREAD_MULTIPLE:
        raise RunError(f"ranks: {library} allows MPI in one thread only, and the watchdog has its own; use another MPI")
    return MPIRanks(MPI.COMM_WORLD)


def _prefer_ring(size: int) -> None:
    """Let MPICH sum in a ring over a few ranks on several hosts, unless the user has chosen.

    Over TCP that takes up to 2.6 times less than its default: see benchmarks/README.md.
    """
    on_this_host = os.environ.get("MPI_LOCALNRANKS", "")
    if on_this_host.isdecimal() and int(on_this_host) < size <= MOST_IN_RING:
        for name, value in RING.items():
            os.environ.setdefault(name, value)


def _loaded() -> Any:
    """Load mpi4py's module without joining yet, which ends the process where the launcher is another MPI's."""
    try:
        import mpi4py

        mpi4py.rc(initialize=False, finalize=True)
        from mpi4py import MPI
    except ModuleNotFoundError:
        raise RunError(f"ranks: mpiexec started several processes, and mpi4py is not installed; {INSTALL}") from None
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"ranks: MPI's library cannot be loaded ({reason}); install one: {INSTALL}") from None
    return MPI
