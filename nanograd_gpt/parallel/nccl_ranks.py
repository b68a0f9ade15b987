"""Processes that mpiexec started, with a GPU each: arrays are exchanged by NCCL between the GPUs, all else by MPI.

In an update the host waits for no GPU: sums of gradients run on a stream of their own, beside the backward pass; the
loss, the norm and the factor that clips it stay on the devices.  Parts of the moments go through the hosts' memory, at
the start and for a checkpoint.

A rank that fails ends the run as with MPI alone.  One that is gone, stopped or out of reach leaves the others' GPUs
waiting in NCCL, and their hosts where they next read a result.  The watchdog sees a sum that is under way for too long
and asks the other ranks; when one is silent, it ends all processes with MPI's Abort.  NCCL's own abort is not needed
then, since a GPU's kernels end with their process.  An error that NCCL itself notices is raised before the next update.
If NCCL's network fails in silence while MPI's goes on, nobody sees it.

This has been run on a stand-in for NCCL only (tests/parallel/test_nccl_ranks.py), not yet on GPUs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from time import sleep
from typing import Any

from ..backend.contract import Array
from ..backend.select import Device, gpu_of_this_process
from ..errors import RunError, counted
from .mpi_ranks import MPIRanks
from .ranks import Command

TURN = 1.0  # seconds that rank 0 has to report what fails on all ranks


def ranks_on(device: Device, ranks: MPIRanks) -> MPIRanks:
    """The ranks for a training on this device; all call it, before their first array there."""
    return NCCLRanks(ranks) if device == "cuda" else ranks


class NCCLRanks(MPIRanks):
    """The ranks of a training on GPUs: each takes one of its host's, by its number among the ranks there.

    ranks               MPIRanks, of which this is another view, with the same state: either ends the other

    Raises RunError on rank 0 where a GPU or NCCL is missing on any rank or two ranks would share a GPU, and on any rank
    where NCCL fails.
    """

    def __init__(self, ranks: MPIRanks) -> None:
        self.__dict__ = ranks.__dict__
        self._check(gpu_of_this_process(self._rank_on_host()))
        self.between = self._joined()  # a Communicator, whose module imports CuPy
        self.watchdog.queued = self.between.waits_since

    def _rank_on_host(self) -> int:
        with self.waiting("the start"):
            host = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
            rank: int = host.rank
            host.Free()
        return rank

    def _check(self, own: tuple[str, str | None]) -> None:
        """Compare what all ranks found: each one's GPU, and why it cannot be used."""
        with self.waiting("the start"):
            found = self.comm.gather(own)
        if self.rank:
            return
        sharing: dict[tuple[str, str], list[int]] = defaultdict(list)
        for rank, ((host, _), (gpu, problem)) in enumerate(zip(self.hosts, found, strict=True)):
            if problem:
                where = f" on rank {rank} ({host})" if rank else ""
                raise RunError(f"ranks: the GPU cannot be used{where}: {problem}; or train with --device cpu")
            sharing[host, gpu].append(rank)
        for (host, _), ranks in sharing.items():
            if len(ranks) > 1:
                there = [gpu for name, gpu in sharing if name == host]
                total = sum(name == host for name, _ in self.hosts)
                raise RunError(
                    f"ranks: {host} has {counted(len(there), 'GPU')} for {counted(total, 'rank')}, and NCCL needs one "
                    f"for each: start at most {len(there)} there, or train with --device cpu"
                )

    def _joined(self) -> Any:
        from ..backend.cuda.nccl import Communicator, unique_id

        id_of_all = self.broadcast(unique_id() if self.rank == 0 else None)
        try:
            with self.waiting("the start"):
                return Communicator(self.size, self.rank, id_of_all)
        except RunError:
            if self.rank:
                sleep(TURN)  # the same on all ranks, as a rule: then rank 0 says it and ends them
            raise

    def _agree(self, command: Command, signal: int = 0, code: int = 0) -> Command:
        told = super()._agree(command, signal, code)
        if told == Command.END:
            self.between.close()
        return told

    def at_update(self, step: int, state: Callable[[], Mapping[str, str]]) -> None:
        self.between.check()
        super().at_update(step, state)

    # Arrays, which are on the GPU

    def _send(self, part: Array) -> None:
        self.between.begin_sum(part)

    def _progress(self) -> None:
        """The GPU makes progress by itself."""

    def _finish(self) -> None:
        self.between.finish()

    def _reduce_scatter(self, grad: Array, own: slice) -> None:
        self.between.sum_part(grad)

    def _all_gather(self, data: Array) -> None:
        self.between.gather_parts(data)

    def sum(self, numbers: Array) -> Array:
        with self.waiting("the sum of losses"):
            return self.between.sum(numbers.copy())

    def _of_rank_0(self, numbers: Array) -> Array:
        with self.waiting("the gradient's norm"):
            return self.between.broadcast(numbers)

    def _share(self, array: Array) -> None:
        self.between.broadcast(array)
