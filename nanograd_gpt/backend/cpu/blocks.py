"""Long arrays processed in cache-sized blocks, by one thread or several.

Results are bit-identical for any number of threads: blocks are independent, and where a result depends on their size
the caller fixes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from timeit import repeat

import numpy as np

from ..contract import Array
from .threads import is_long_enough, n_threads, parallel_for

BLOCK_ELEMENTS = 1 << 15  # with one thread: a few float32 arrays of it fit into a core's L2 cache
SHARED_BLOCK_ELEMENTS = 1 << 17  # with several: shorter blocks would contend for the GIL


def for_each_block(n: int, cost: int, body: Callable[[slice], object], width: int = 1, rows: int | None = None) -> None:
    """Call body with slices that cover 0 .. n, from several threads if that is faster.

    cost: the time of an element, in multiplications
    width: elements of each of the n, as in a row [1]
    rows: of the n per slice, for results that depend on it [chosen to suit the number of threads]
    """
    threads = n_threads() if is_worth_sharing(n * width * cost) else 1
    if threads == 1:
        for block in blocks(n, rows or rows_per_block(width)):
            body(block)
    else:
        n_blocks = -(-n * width // (threads * SHARED_BLOCK_ELEMENTS)) * threads
        parallel_for(blocks(n, rows or -(-n // n_blocks)), body)


def is_worth_sharing(multiplications: int) -> bool:
    """Whether several threads do work that takes as long as so many multiplications of elements sooner than one."""
    return is_long_enough(multiplications * _seconds_per_multiplication())


@cache
def _seconds_per_multiplication() -> float:
    a = np.ones(BLOCK_ELEMENTS, dtype=np.float32)
    return min(repeat(lambda: np.multiply(a, a, out=a), number=1, repeat=10)) / len(a)


def flat(array: Array) -> Array:
    """(...)  ->  (size,), a copy only where memory is not contiguous."""
    return np.ascontiguousarray(array).reshape(-1)


def rows_per_block(width: int, block: int | None = None) -> int:
    """The number of rows of `width` elements in a block of so many [BLOCK_ELEMENTS], at least 1."""
    return max(1, (block or BLOCK_ELEMENTS) // max(1, width))


def blocks(size: int, block: int) -> list[slice]:
    """Slices of `block` elements that cover 0 .. size; the last may be shorter."""
    return [slice(i, min(i + block, size)) for i in range(0, size, block)]
