"""Long arrays processed in cache-sized blocks, by one thread or several.

Results are bit-identical for any number of threads: blocks are independent, and where a result depends on their size
the caller fixes it.
"""

from __future__ import annotations

from collections.abc import Callable

from .threads import n_threads, parallel_for

BLOCK_ELEMENTS = 1 << 15  # with one thread: a few float32 arrays of it fit into a core's L2 cache
SHARED_BLOCK_ELEMENTS = 1 << 17  # with several: shorter blocks would contend for the GIL
MIN_ELEMENTS_PER_THREAD = 1 << 18  # below, handing work to threads costs more than it saves


def for_each_block(size: int, body: Callable[[slice], object], block: int | None = None) -> None:
    """Call body with slices that cover 0 .. size, from several threads if there are many elements.

    block: elements per slice, for results that depend on it; by default chosen to suit the number of threads.
    """
    for_each_row_block(size, 1, body, block)


def for_each_row_block(n_rows: int, width: int, body: Callable[[slice], object], rows: int | None = None) -> None:
    """Call body with slices that cover 0 .. n_rows, as for_each_block does for rows of `width` elements."""
    single = n_rows * width < 2 * MIN_ELEMENTS_PER_THREAD or n_threads() == 1
    slices = blocks(n_rows, rows or rows_per_block(width, BLOCK_ELEMENTS if single else SHARED_BLOCK_ELEMENTS))
    if single:
        for block in slices:
            body(block)
    else:
        parallel_for(slices, body)


def rows_per_block(width: int, block: int = BLOCK_ELEMENTS) -> int:
    """The number of rows of `width` elements in a block, at least 1."""
    return max(1, block // max(1, width))


def blocks(size: int, block: int) -> list[slice]:
    """Slices of `block` elements that cover 0 .. size; the last may be shorter."""
    return [slice(i, min(i + block, size)) for i in range(0, size, block)]
