"""Memory that an update frees is kept for the next one: to get it from the system again, page by page, costs more than
many a kernel.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for them: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
KEPT = 1 << 30  # bytes of freed memory that stay with the process
ONE_ARRAY = 1 << 25  # bytes; a longer array's memory goes back at once, so that no hole stays where it was


def keep_freed_memory() -> None:
    """Tell the C library, where it is one that can be told."""
    if _glibc is not None:
        _glibc.mallopt(TRIM_THRESHOLD, KEPT)
        _glibc.mallopt(MMAP_THRESHOLD, ONE_ARRAY)


def give_freed_memory_back() -> None:
    """Give the system what is free now: after a setting up whose arrays no update is going to need."""
    if _glibc is not None:
        _glibc.malloc_trim(0)


def _found() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


_glibc = _found()
