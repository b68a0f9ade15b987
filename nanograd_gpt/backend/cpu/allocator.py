"""glibc's thresholds for giving freed memory back to the system.

An update frees what the next one needs again, and to get it from the system page by page costs more than many kernels.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for them: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
KEPT = 1 << 30  # bytes of freed memory that stay with the process
SET_BY_USER = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"
ONE_ARRAY = 1 << 25  # bytes; a longer array's memory goes back at once, so that no hole stays where it was


def keep_freed_memory() -> None:
    """Raise glibc's trim and mmap thresholds, for the whole process; a no-op elsewhere.

    The training loop calls it.  Thresholds that are set in the environment (MALLOC_TRIM_THRESHOLD_,
    MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES) are left as they are.
    """
    if _glibc is not None and not any(name in os.environ for name in SET_BY_USER):
        _glibc.mallopt(TRIM_THRESHOLD, KEPT)
        _glibc.mallopt(MMAP_THRESHOLD, ONE_ARRAY)


def give_freed_memory_back() -> None:
    """Return free memory to the system now, after a set-up whose arrays no update needs; a no-op without glibc."""
    if _glibc is not None:
        _glibc.malloc_trim(0)


def _found() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


_glibc = _found()
