"""Processes that mpiexec started: sums by MPI, overlapped with the backward pass, or an optimizer in parts.

Sums are the same bits on all ranks, so parameters stay the same without ever being sent; this is checked from time to
time.  With `sharded`, each rank holds the moments of its part alone, updates that part, and sends it to the others: the
first stage of ZeRO (Rajbhandari et al. 2020).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import sleep
from typing import Any, TypeVar

import numpy as np

from .. import autograd
from ..autograd import Function
from ..backend.contract import Array, HostArray
from ..backend.plain.optimizer import scale_for_norm
from ..backend.select import device_of, kernels_of, to_device, to_host
from ..nn.flat import FlatParameters
from ..optim import AdamW
from ..rng import Part
from ..tensor import Tensor
from .buckets import Buckets
from .final_gradients import FinalGradients
from .ranks import Command, DisagreementError
from .watchdog import Watchdog

T = TypeVar("T")

WAIT_LIMIT = 60.0  # seconds
BUCKET_BYTES = 4 << 20  # large enough that a message's latency is small beside its transfer
PRINTED_WITHIN = 0.5  # seconds: mpiexec drops lines that it has not yet passed on when a rank calls Abort
LOOKS = 8  # at the sums under way after an operation: MPI moves a part of a message in each
AGREE_EVERY = 100  # updates between two comparisons of the ranks' states


class MPIRanks:
    """The processes of MPI's communicator; see Ranks.

    comm                mpi4py communicator, with threads allowed to call MPI at the same time
    """

    bucket_bytes, agree_every = BUCKET_BYTES, AGREE_EVERY

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self.MPI, self.comm = MPI, comm
        self.rank, self.size, self.sharded = comm.rank, comm.size, False
        self.signal: int | None = None  # the number of one that another rank has received
        self.has_started = self.has_ended = False
        self.code = 0  # to exit with
        self.hosts: list[tuple[str, int]] = comm.allgather((socket.gethostname(), os.getpid()))
        self.threads = self._share_of_cores()
        places = [f"{host}, process {pid}" for host, pid in self.hosts]
        self.watchdog = Watchdog(comm.Dup(), WAIT_LIMIT, places)
        self.update: int | None = None  # the present one's number
        self._first_update: int | None = None
        self._buckets: Buckets | None = None
        self._flat: FlatParameters | None = None
        self._requests: list[Any] = []

    @property
    def part(self) -> Part:
        return self.rank, self.size

    def _share_of_cores(self) -> int:
        """The processors that this process may use, divided by the ranks that share them."""
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        node = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
        sharing = sum(not own.isdisjoint(others) for others in node.allgather(own))
        node.Free()
        return max(1, len(own) // sharing)

    def waiting(self, operation: str) -> AbstractContextManager[None]:
        """Watch an operation of all ranks in this block."""
        return self.watchdog.waiting(operation if self.update is None else f"{operation} of update {self.update}")

    # Rank 0 leads, the others follow

    def broadcast(self, value: T | None) -> T:
        """Rank 0's value, on all ranks."""
        with self.waiting("the start"):
            return self.comm.bcast(value)

    def lead(self, command: Command, code: int = 0) -> None:
        if self.rank == 0:
            self._agree(command, code=code)

    def follow(self, signal: int | None) -> Command:
        """Return what rank 0 tells to do next; `signal` is the number of one that this rank has received."""
        return self._agree(Command.START, signal or 0)

    def _agree(self, command: Command, signal: int = 0, code: int = 0) -> Command:
        """Exchange rank 0's command, other ranks' signals, and the exit code of the end: the largest of each."""
        told = np.array([command, signal, code])
        with self.waiting("the wait for rank 0"):
            self.comm.Allreduce(self.MPI.IN_PLACE, told, self.MPI.MAX)
        self.signal, self.code = int(told[1]) or None, int(told[2])
        self.has_started, self.has_ended = True, told[0] == Command.END
        return Command(told[0])

    def led(self, steps: Iterator[T]) -> Iterator[T]:
        while True:
            self.lead(Command.UPDATE)
            try:
                step = next(steps)
            except StopIteration:
                return
            yield step

    def at_update(self, step: int, state: Callable[[], Mapping[str, str]]) -> None:
        self.update = step
        if self._first_update is None:
            self._first_update = step
        if (step - self._first_update) % self.agree_every == 0:
            self._check_agreement(state())

    def _check_agreement(self, state: Mapping[str, str]) -> None:
        with self.waiting("a comparison of the ranks' states"):
            states = self.comm.allgather(dict(state))
        for what, of_rank_0 in states[0].items():
            if differing := [rank for rank, other in enumerate(states) if other[what] != of_rank_0]:
                host, pid = self.hosts[differing[0]]
                raise DisagreementError(
                    f"ranks: before update {self.update}, {what} on rank {differing[0]} ({host}, process {pid}) is not "
                    "rank 0's; are the same processors, libraries and versions on all hosts? Go on from the last "
                    "checkpoint with --resume"
                )

    # Gradients

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        if not last or self.sharded:
            loss.backward()
            return
        buckets = self._buckets_of(optimizer)

        assert loss.node is not None  # a training loss depends on the parameters
        gradients = FinalGradients(loss.node, buckets.final)

        def delivered(node: Function) -> None:
            gradients.delivered(node)
            self._progress()

        one = kernels_of(loss.data).xp.ones_like(loss.data)
        autograd.backward(loss.node, one, delivered)

    def _buckets_of(self, optimizer: AdamW) -> Buckets:
        if self._buckets is None or self._flat is not optimizer.flat:
            self._flat = flat = optimizer.flat
            self._buckets = Buckets(flat, lambda part: self._send(flat.grad[part]), self.bucket_bytes)
        return self._buckets

    def _send(self, part: Array) -> None:
        """Begin to sum a part of the flat gradient."""
        self._requests.append(self.comm.Iallreduce(self.MPI.IN_PLACE, part, self.MPI.SUM))

    def _progress(self) -> None:
        """Let MPI work on the sums under way: it does nothing between calls."""
        for _ in range(LOOKS):
            self._requests = [request for request in self._requests if not request.Test()]

    def sum_gradients(self, optimizer: AdamW) -> None:
        optimizer.flat.zero_missing()
        if self.sharded:
            with self.waiting("the sum of gradients"):
                self._reduce_scatter(optimizer.flat.grad, optimizer.own)
            return
        self._buckets_of(optimizer).send_rest()
        with self.waiting("the sum of gradients"):
            self._finish()

    def _finish(self) -> None:
        """Wait for the sums under way."""
        self.MPI.Request.Waitall(self._requests)
        self._requests = []

    def _reduce_scatter(self, grad: Array, own: slice) -> None:
        """Sum this rank's part; the rest of the gradient is lost."""
        self.comm.Reduce_scatter_block(self.MPI.IN_PLACE, grad, self.MPI.SUM)  # to the front of the array
        grad[own] = grad[: own.stop - own.start]

    def _all_gather(self, data: Array) -> None:
        """Send this rank's part of the parameters to all others, and receive theirs."""
        self.comm.Allgather(self.MPI.IN_PLACE, data)

    # A few numbers

    def sum(self, numbers: Array) -> Array:
        summed = np.array(numbers)
        with self.waiting("the sum of losses"):
            self.comm.Allreduce(self.MPI.IN_PLACE, summed, self.MPI.SUM)
        return summed

    def _of_rank_0(self, numbers: Array) -> Array:
        """Rank 0's values of a few numbers."""
        told = np.array(numbers)
        with self.waiting("the gradient's norm"):
            self.comm.Bcast(told)
        return told

    def mean_losses(self, losses: Sequence[float], rows: Sequence[int]) -> list[float]:
        weights = np.array(rows, dtype=np.float64)
        sums = np.array([loss if n else 0.0 for loss, n in zip(losses, rows, strict=True)]) * weights
        with self.waiting("an evaluation"):
            self.comm.Allreduce(self.MPI.IN_PLACE, both := np.stack([sums, weights]), self.MPI.SUM)
        means: list[float] = (both[0] / both[1]).tolist()
        return means

    # The update

    def clip_scale(self, optimizer: AdamW, max_norm: float) -> tuple[Array, Array]:
        if self.sharded:
            norm, _ = kernels_of(optimizer.flat.grad).clip_scale([optimizer.flat.grad[optimizer.own]], max_norm)
            norm, scale = scale_for_norm(self.sum(norm * norm).reshape(1), max_norm)
        else:
            norm, scale = optimizer.clip_scale(max_norm)
        both = self._of_rank_0(optimizer.flat.kernels.xp.stack([norm, scale]))
        return both[0], both[1].copy()  # at an address that kernels take

    def step(self, optimizer: AdamW, max_norm: float | None) -> Array | None:
        flat = optimizer.flat
        flat.check_in_place()
        norm, scale = (None, None) if max_norm is None else self.clip_scale(optimizer, max_norm)
        optimizer.apply(to_device(optimizer.advance(), device_of(flat.data)), scale)
        if self.sharded:
            optimizer.zero_grad()  # each rank has the sums of its part alone
            with self.waiting("the exchange of parameters"):
                self._all_gather(flat.data)
        return norm

    # The optimizer's moments

    def share(self, optimizer: AdamW, wait_limit: float = WAIT_LIMIT) -> None:
        """Give all ranks rank 0's parameters and moments; with `sharded`, each those of its part alone."""
        self.watchdog.limit = wait_limit
        with self.waiting("the start"):
            self._share(optimizer.flat.data)
            has_moments = self.comm.bcast(any(optimizer.steps))
            whole = optimizer.exp_avg, optimizer.exp_avg_sq
            if self.sharded:
                optimizer.keep_shard(*self.part)
            own = optimizer.exp_avg, optimizer.exp_avg_sq
            for all_of_it, part in zip(whole, own, strict=True) if has_moments else ():
                if self.sharded:
                    self._scatter(all_of_it, part)
                else:
                    self._share(part)

    def _share(self, array: Array) -> None:
        """Replace an array by rank 0's."""
        on_host = np.ascontiguousarray(to_host(array))
        self.comm.Bcast(on_host)
        if on_host is not array:
            array[...] = to_device(on_host, device_of(array))

    def _scatter(self, whole: Array, part: Array) -> None:
        """Give each rank its part of rank 0's array."""
        on_host = np.empty(part.shape, part.dtype)
        sent = None
        if self.rank == 0:
            sent = np.zeros(part.size * self.size, part.dtype)
            sent[: whole.size] = to_host(whole)
        self.comm.Scatter(sent, on_host)
        part[...] = to_device(on_host, device_of(part))

    @contextmanager
    def whole_moments(self, optimizer: AdamW) -> Iterator[None]:
        if optimizer.exp_avg.size == optimizer.flat.data.size:  # not divided, or not yet
            yield
            return
        self.lead(Command.SHARE_MOMENTS)
        own = optimizer.exp_avg, optimizer.exp_avg_sq
        with self.waiting("the collection of moments"):
            whole = [self._gather(part) for part in own]
        if self.rank == 0:
            optimizer.exp_avg, optimizer.exp_avg_sq = whole
        try:
            yield
        finally:
            optimizer.exp_avg, optimizer.exp_avg_sq = own

    def _gather(self, part: Array) -> HostArray:
        """All parts of an array, on rank 0."""
        received = np.empty(part.size * self.size if self.rank == 0 else 0, part.dtype)
        self.comm.Gather(np.ascontiguousarray(to_host(part)), received)
        return received

    # The end

    def end(self, code: int) -> None:
        """End all ranks with this process's exit code; at once, if it is an error that the others do not know of."""
        if self.rank == 0 and not self.has_started:
            self.lead(Command.END, code)
        elif not self.has_ended:
            sleep(PRINTED_WITHIN)
            self.comm.Abort(code or 1)
        self.watchdog.end()
