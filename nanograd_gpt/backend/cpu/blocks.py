"""Cut long arrays into blocks that fit the cache, and share the blocks among threads.

NumPy lets other threads run while it computes.  Where the cuts are depends on the sizes alone, and each element is
computed by itself, so the number of threads changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context  # numpy.errstate lives in it
from functools import cache
from os import cpu_count

BLOCK = 1 << 16  # elements: a few float32 arrays of it fit into a core's L2 cache
WORTH_A_THREAD = 4  # blocks; below, handing them over costs more than it saves


def for_each_block(size: int, body: Callable[[slice], None], block: int = BLOCK) -> None:
    """Call body with every block's slice of 0 .. size, from several threads if there are many."""
    parts = [slice(i, min(i + block, size)) for i in range(0, size, block)]
    n_threads = min(cpu_count() or 1, len(parts) // WORTH_A_THREAD)
    if n_threads < 2:
        _run(parts, body)
        return
    others = [_pool().submit(copy_context().run, _run, parts[t::n_threads], body) for t in range(1, n_threads)]
    _run(parts[::n_threads], body)
    for job in others:
        job.result()  # which raises what the thread raised


def _run(parts: list[slice], body: Callable[[slice], None]) -> None:
    for part in parts:
        body(part)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (cpu_count() or 1) - 1), thread_name_prefix="nanograd_gpt")
