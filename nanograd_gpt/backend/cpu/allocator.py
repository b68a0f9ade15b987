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
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, ONE_ARRAY)
