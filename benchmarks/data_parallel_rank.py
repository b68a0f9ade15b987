"""One rank of benchmarks/data_parallel.py, which mpiexec starts on each host; rank 0 prints what was measured as JSON.

    data_parallel_rank.py sums ROUNDS BYTES...
    data_parallel_rank.py steps ROUNDS EMB_DIM LAYERS BATCH LENGTH

Where ranks share processors, one that waits sleeps between two looks, as it must not keep another from its work.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

from nanograd_gpt import AdamW, GPTModel
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.parallel.mpi_ranks import MPIRanks
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

LOOK_EVERY = 2e-4  # seconds
COUNTER = Path("/sys/class/net/eth0/statistics/tx_bytes")  # of this host's link


class MeasuredRanks(MPIRanks):
    """MPIRanks whose sums run during the backward pass, after it, or not at all."""

    way = "overlapped"  # or "plain", "none"

    def __init__(self, comm: Any) -> None:
        super().__init__(comm)
        self.ready: list[float] = []  # when each bucket of this pass was final

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        self.ready = []
        if self.way == "plain":
            loss.backward()  # sum_gradients then sends all
        else:
            super().backward(loss, optimizer, last)

    def _send(self, part: Array) -> None:
        self.ready.append(perf_counter())
        if self.way != "none":
            super()._send(part)

    def _finish(self) -> None:
        pause = LOOK_EVERY if self.size > (os.cpu_count() or 1) else 0
        while not self.MPI.Request.Testall(self._requests):
            sleep(pause)
        self._requests = []


def sums(ranks: MeasuredRanks, rounds: int, sizes: list[int]) -> dict[str, Any]:
    """Seconds of a sum of each size, of the slowest rank."""
    times: dict[int, list[float]] = {}
    for nbytes in sizes:
        part = np.ones(nbytes // 4, dtype=np.float32)
        times[nbytes] = [_timed(ranks, lambda part=part: _summed(ranks, part)) for _ in range(rounds)]
    return {"seconds": times}


def _summed(ranks: MeasuredRanks, part: Array) -> None:
    ranks._send(part)
    ranks._finish()


def _timed(ranks: MeasuredRanks, work: Callable[[], None]) -> float:
    ranks.comm.Barrier()
    begun = perf_counter()
    work()
    return _slowest(ranks, [perf_counter() - begun])[0]


def _slowest(ranks: MeasuredRanks, seconds: list[float]) -> list[float]:
    """The largest of all ranks' of each."""
    largest = np.array(seconds)
    ranks.comm.Allreduce(ranks.MPI.IN_PLACE, largest, ranks.MPI.MAX)
    slowest: list[float] = largest.tolist()
    return slowest


def steps(ranks: MeasuredRanks, rounds: int, emb_dim: int, layers: int, batch: int, length: int) -> dict[str, Any]:
    """Seconds of the phases of train steps in each way, alternately, and the bytes that this host has sent."""
    config = GPTConfig(512, length, emb_dim, 4, layers, 0.0)
    model = GPTModel(config, rng=Generator(1))
    optimizer = AdamW(model.parameters(), lr=1e-4)
    ids, targets = random_batch(config, batch, length, seed=ranks.rank)
    found: dict[str, list[dict[str, Any]]] = {"none": [], "plain": [], "overlapped": []}
    for i in range(rounds + 1):
        for way in found:
            ranks.way = way
            step = _step(ranks, model, optimizer, ids, targets)
            if i:  # the first round warms up
                found[way].append(step)
    buckets = ranks._buckets_of(optimizer)
    parts = [optimizer.flat.grad[part].nbytes for part in buckets.slices]
    return {"ways": found, "nbytes": parts, "n_parameters": config.n_parameters, "tokens": batch * length}


def _step(ranks: MeasuredRanks, model: GPTModel, optimizer: AdamW, ids: Any, targets: Any) -> dict[str, Any]:
    optimizer.zero_grad()
    ranks.comm.Barrier()
    times, sent = [perf_counter()], [_sent()]
    loss = model.loss(ids, targets) * (1 / ranks.size)
    times.append(perf_counter())
    ranks.backward(loss, optimizer, last=True)
    ready = list(ranks.ready)
    sent.append(_sent())
    if ranks.way == "plain":
        ranks.comm.Barrier()  # the wait for a slower rank's backward pass is not that for the sums
    times.append(perf_counter())
    ranks.sum_gradients(optimizer)
    times.append(perf_counter())
    optimizer.step()
    times.append(perf_counter())
    at = np.array(_slowest(ranks, [*(time - times[0] for time in times), *(time - times[1] for time in ready)]))
    step = dict(zip(("forward", "backward", "wait", "optimizer"), np.diff(at[: len(times)]).tolist(), strict=True))
    sent.append(_sent())  # now that all ranks have what was sent to them
    early, late = np.diff(sent).tolist()
    counted = {"sent_in_backward": early, "sent_after": late}
    return {**step, **counted, "total": float(at[len(times) - 1]), "ready": at[len(times) :].tolist()}


def _sent() -> int:
    """Bytes that this host has sent so far."""
    return int(COUNTER.read_text(encoding="ascii"))


def main(work: str, rounds: str, *sizes: str) -> None:
    from mpi4py import MPI

    ranks = MeasuredRanks(MPI.COMM_WORLD)
    numbers = [int(text) for text in sizes]
    found = sums(ranks, int(rounds), numbers) if work == "sums" else steps(ranks, int(rounds), *numbers)
    if ranks.rank == 0:
        print(json.dumps(found))
    ranks.comm.Barrier()
    ranks.watchdog.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
