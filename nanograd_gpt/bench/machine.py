"""The machine's peak rates, measured in the same process as the benchmark, and the peak memory of the process."""

from __future__ import annotations

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from ..backend.contract import Array
from ..backend.cpu.allocator import give_freed_memory_back
from ..backend.select import Device, kernels_of, synchronize, to_device
from ..rng import Generator

PRODUCT = {"cpu": 1536, "cuda": 8192}  # rows of the square matrices: large enough for the peak rate
COPIED = {"cpu": 1 << 26, "cuda": 1 << 30}  # bytes, far larger than the caches, of which an H100 has 50 MB


@dataclass(frozen=True)
class Machine:
    """Peak rates of matrix products and of memory traffic (bytes read plus bytes written)."""

    flops_per_second: float
    bytes_per_second: float

    def lower_bound(self, flops: float, n_bytes: float) -> float:
        """Return the lower bound in seconds for this much work (roofline)."""
        return max(flops / self.flops_per_second, n_bytes / self.bytes_per_second)


def measured_machine(device: Device) -> Machine:
    """Measure both rates; takes one or two seconds."""
    return Machine(flops_per_second(device, PRODUCT[device], rounds=8), bytes_per_second(device))


def flops_per_second(device: Device, size: int = 768, rounds: int = 5) -> float:
    """Measure the FLOP/s of a product of two float32 matrices, in the precision in force: the best of a few rounds."""
    a = to_device(Generator().uniform((size, size)), device)
    kernels = kernels_of(a)
    multiply = kernels.xp.matmul if device == "cpu" else partial(kernels.linear, bias=None)
    multiply(a, a)  # warm-up
    times = []
    for _ in range(rounds):
        synchronize(device)
        start = perf_counter()
        multiply(a, a)
        synchronize(device)
        times.append(perf_counter() - start)
    return 2.0 * size**3 / min(times)


def bytes_per_second(device: Device, rounds: int = 8) -> float:
    """Measure the best rate of copying an array larger than the caches, with one thread and with one per core.

    With one alone where the system gives no more.
    """
    source = to_device(np.ones(COPIED[device] // 4, dtype=np.float32), device)
    target = source.copy()
    best = 0.0
    for n_threads in {1, os.cpu_count() or 1} if device == "cpu" else {1}:
        with ThreadPoolExecutor(n_threads) as pool:
            copies = map if n_threads == 1 else pool.map
            for _ in range(rounds):
                start = perf_counter()
                try:
                    list(copies(_copy, _parts(target, n_threads), _parts(source, n_threads)))
                except RuntimeError:  # no thread can be started
                    break
                synchronize(device)
                best = max(best, 2 * source.nbytes / (perf_counter() - start))
    return best


def _parts(array: Array, n: int) -> list[Array]:
    return kernels_of(array).xp.array_split(array, n)


def _copy(target: Array, source: Array) -> None:
    target[...] = source


def physical_memory() -> int | None:
    """The machine's memory in bytes; None where the system does not tell it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows, or without these names
        return None


def resident_memory() -> int:
    """Return the resident memory of this process in bytes, after freed memory went back to the system.

    Where the system does not report it, its peak, or else 0.
    """
    give_freed_memory_back()
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory() or 0


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in bytes; None where the system does not report it.

    Linux's ru_maxrss includes the parent's memory at the fork, before this program was loaded; VmHWM does not.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
