"""Peak memory and duration that a training run is expected to have."""

from __future__ import annotations

import os
from hashlib import sha256
from math import inf
from tempfile import TemporaryFile
from typing import NamedTuple

from ..training.loop import SAMPLE_TOKENS
from ..training.run import Run, streams
from .estimate import BYTES, memory_bytes, seconds_of, training_times
from .gpu_estimate import gpu_memory_bytes
from .machine import resident_memory

WRITTEN = 1 << 22  # bytes


class Expected(NamedTuple):
    """Bytes of the process on a CPU, or of the GPU's memory, on each rank; and seconds, without figures."""

    memory: int
    seconds: float


def expected_of(run: Run, done: int = 0, freed: int = 0) -> Expected:
    """Estimate the rest of a run after `done` updates; the exchange between ranks is not counted.

    The process's own memory is measured, without `freed` bytes that are in use now and not in training.
    """
    seconds = _seconds(run, done)
    sizes = run.config.model, run.config.data.batch_size // run.ranks.size
    weights = BYTES * run.config.model.n_parameters
    elsewhere = 2 * weights * (run.ranks.size - 1) // run.ranks.size if run.ranks.sharded else 0  # parts of the moments
    if run.device != "cpu":
        return Expected(gpu_memory_bytes(*sizes) - elsewhere, seconds)
    best = weights  # the copy of the best weights, until they are written
    return Expected(resident_memory() - freed + memory_bytes(*sizes) - elsewhere + best, seconds)


def _seconds(run: Run, done: int) -> float:
    """Estimate the updates from number `done` on, with evaluations and samples; without a loop: there may be 10^18."""
    t, last = run.config.training, run.total_steps
    times = training_times(
        run.config.model,
        run.config.data.batch_size // run.ranks.size,
        run.device,
        streams(t)[0],
        accumulate=t.accumulate,
        clipped=t.max_norm > 0,
    )
    evaluations = -(-last // t.eval_freq) - -(-done // t.eval_freq)
    evaluations += run.evaluates_at_end and (last - 1) % t.eval_freq > 0
    batches = sum(min(t.eval_iter, len(loader)) for loader in (run.train_loader, run.val_loader))
    first_epoch, last_epoch = done // run.steps_per_epoch, last // run.steps_per_epoch
    samples = last_epoch // t.sample_every - first_epoch // t.sample_every
    samples += first_epoch < last_epoch == t.epochs and t.epochs % t.sample_every > 0
    checkpoints = 1 + ((last - done) // t.checkpoint_every if t.checkpoint_every else 0)
    weights = BYTES * run.config.model.n_parameters
    # weights and two moments; before each checkpoint and at the end the best weights too, as if they were new each time
    written = checkpoints * 3 * weights + min(evaluations, checkpoints + 1) * weights
    return times.total(last - done, evaluations * batches, samples * SAMPLE_TOKENS) + written / written_per_second()


def written_per_second() -> float:
    """Measure the bytes per second of writing a file to the disk and hashing it, as a checkpoint's are.

    Infinite where no temporary file can be written.
    """
    data = bytes(WRITTEN)

    def write() -> None:
        with TemporaryFile() as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sha256(data)

    try:
        return WRITTEN / seconds_of(write, "cpu")
    except OSError:  # it is an estimate only; whether the run's own files can be written, writing them tells
        return inf
