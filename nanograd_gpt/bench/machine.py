"""This machine's limits, measured in the run that is compared with them; and the peak memory of a process."""

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

PRODUCT = 1536  # rows of the square matrices: large enough for the best rate, 0.05 s on a slow machine
COPIED = 1 << 26  # bytes: more than a cache holds


@dataclass(frozen=True)
class Machine:
    """The best rates seen: of float32 matrix products, and of moving memory (bytes read and bytes written)."""

    flops_per_second: float
    bytes_per_second: float

    def floor(self, flops: float, n_bytes: float) -> float:
        """The seconds that so much work takes at least."""
        return max(flops / self.flops_per_second, n_bytes / self.bytes_per_second)


def measured_machine(device: Device) -> Machine:
    """Measure both rates; takes a second or two."""
    return Machine(flops_per_second(device, size=PRODUCT, rounds=8), bytes_per_second(device))


def bytes_per_second(device: Device, rounds: int = 8) -> float:
    """Copying an array that no cache holds, by one thread and by one a core: the best of all."""
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
    """Bytes of memory that this process has had at most; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
