"""Long arrays a block at a time: each block stays in the cache, and blocks go to several threads.

Where blocks are cut does not depend on the number of threads, and a block computes by itself, so the number of threads
changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable

from .threads import n_threads, parallel_for

BLOCK = 1 << 15  # elements of one thread: a few float32 arrays of it fit into a core's L2 cache
SHARED_BLOCK = 1 << 17  # of several: shorter steps would make them wait for each other (for the interpreter's lock)
MIN_ELEMENTS_PER_THREAD = 1 << 18  # elements a thread; below, handing them over costs more than it saves


def for_each_block(size: int, body: Callable[[slice], object], block: int | None = None) -> None:
    """Call body with every block's slice of 0 .. size, from several threads if there are many.

    Blocks are as long as suits the threads, unless `block` says it: where a result depends on the cuts.
    """
    for_each_row_block(size, 1, body, block)


def for_each_row_block(n_rows: int, width: int, body: Callable[[slice], object], rows: int | None = None) -> None:
    """The same for rows of so many elements: body gets slices of 0 .. n_rows."""
    alone = n_rows * width < 2 * MIN_ELEMENTS_PER_THREAD or n_threads() == 1
    parts = blocks(n_rows, rows or rows_a_block(width, BLOCK if alone else SHARED_BLOCK))
    if alone:
        for part in parts:
            body(part)
    else:
        parallel_for(parts, body)


def rows_a_block(width: int, block: int = BLOCK) -> int:
    """The number of rows of so many elements that make a block."""
    return max(1, block // max(1, width))


def blocks(size: int, block: int) -> list[slice]:
    """0 .. size in slices of a block, the last one shorter."""
    return [slice(i, min(i + block, size)) for i in range(0, size, block)]
