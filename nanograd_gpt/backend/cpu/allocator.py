"""glibc's thresholds for returning freed memory to the system.

Each update frees memory that the next one needs; page faults for getting it back cost more than many kernels.
"""

from __future__ import annotations

import ctypes
import os
import sys
from mmap import PAGESIZE

from ..contract import Array

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt's parameters
MADV_NOHUGEPAGE = 15  # of madvise
THRESHOLD_VARIABLES = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"
LARGE_BYTES = 1 << 22  # NumPy's own limit
TRIM_THRESHOLD_BYTES = 1 << 30  # freed memory up to this size stays with the process
MMAP_THRESHOLD_BYTES = 1 << 25  # larger arrays are unmapped when freed, so that they leave no holes in the heap

_library = ctypes.CDLL(None) if sys.platform == "linux" else None
_glibc = _library if hasattr(_library, "malloc_trim") else None  # musl has none


def keep_freed_memory() -> None:
    """Raise glibc's trim and mmap thresholds, for the whole process; a no-op elsewhere.

    Called by the training loop.  Does nothing if the environment sets a threshold (MALLOC_TRIM_THRESHOLD_,
    MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES).
    """
    if _glibc is not None and not any(name in os.environ for name in THRESHOLD_VARIABLES):
        _glibc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        _glibc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def give_freed_memory_back() -> None:
    """Return free memory to the system, for use after set-up; a no-op without glibc."""
    if _glibc is not None:
        _glibc.malloc_trim(0)


def in_small_pages(zeros: Array) -> None:
    """Let a new array of 4 MiB or more take memory only where it is written to; a no-op without glibc.

    For such arrays NumPy asks Linux for pages of 2 MiB, and a single number takes a whole page.
    """
    start, stop = -(-zeros.ctypes.data // PAGESIZE), (zeros.ctypes.data + zeros.nbytes) // PAGESIZE
    if _glibc is not None and zeros.nbytes >= LARGE_BYTES:
        address, size = ctypes.c_void_p(start * PAGESIZE), ctypes.c_size_t((stop - start) * PAGESIZE)
        _glibc.madvise(address, size, MADV_NOHUGEPAGE)
