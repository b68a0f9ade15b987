"""The machine's peak rates, measured in the same process as the benchmark, and the peak memory of the process."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ..backend.contract import Array
from ..backend.select import Device, kernels_of, synchronize, to_device
from .estimate import flops_per_second

PRODUCT = 1536  # rows of the square matrices: large enough for the peak rate, 0.05 s on a slow machine
COPIED = 1 << 26  # bytes, larger than any cache


@dataclass(frozen=True)
class Machine:
    """Peak rates of float32 matrix products and of memory traffic (bytes read plus bytes written)."""

    flops_per_second: float
    bytes_per_second: float

    def floor(self, flops: float, n_bytes: float) -> float:
        """Return the lower bound in seconds for this much work (roofline)."""
        return max(flops / self.flops_per_second, n_bytes / self.bytes_per_second)


def measured_machine(device: Device) -> Machine:
    """Measure both rates; takes one or two seconds."""
    return Machine(flops_per_second(device, size=PRODUCT, rounds=8), bytes_per_second(device))


def bytes_per_second(device: Device, rounds: int = 8) -> float:
    """Measure the best rate of copying an array larger than the caches, with one thread and with one per core."""
    source = to_device(np.ones(COPIED // 4, dtype=np.float32), device)
    target = source.copy()
    best = 0.0
    for n_threads in {1, os.cpu_count() or 1} if device == "cpu" else {1}:
        with ThreadPoolExecutor(n_threads) as pool:
            for _ in range(rounds):
                start = perf_counter()
                list(pool.map(_copy, _parts(target, n_threads), _parts(source, n_threads)))
                synchronize(device)
                best = max(best, 2 * source.nbytes / (perf_counter() - start))
    return best


def _parts(array: Array, n: int) -> list[Array]:
    return kernels_of(array).xp.array_split(array, n)


def _copy(target: Array, source: Array) -> None:
    target[...] = source


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in bytes; None where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
