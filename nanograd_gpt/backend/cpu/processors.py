"""Processors of threads, on systems that tell and decide them (Linux).

Linux wakes a thread on the processor with the least load, averaged over some 30 ms.  After a pause none has any: two
threads that wake each other then meet on one processor, and share it while another is idle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import PyDLL

UNKNOWN = -1

_library = PyDLL(None) if hasattr(os, "sched_setaffinity") else None  # PyDLL: keeps the GIL
_sched_getcpu: Callable[[], int] = getattr(_library, "sched_getcpu", lambda: UNKNOWN)


def current_processor() -> int:
    """The number of the processor that runs this thread, or UNKNOWN."""
    return _sched_getcpu()


def keep_off(thread_ids: Sequence[int], processor: int) -> bool:
    """Let threads of this process run on the other processors that this thread may use, if each can have its own.

    Returns whether they do.
    """
    with suppress(OSError):  # a sandbox forbids it: threads may share a processor
        others = os.sched_getaffinity(0) - {processor}
        if len(others) >= len(thread_ids):
            for thread_id in thread_ids:
                os.sched_setaffinity(thread_id, others)
            return True
    return False
