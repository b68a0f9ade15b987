"""Flags for which a thread waits without the GIL, in NumPy.

np.logical_or.reduce ends at the first True, and runs without the GIL.  Over one byte that a stride of 0 repeats, it
reads this byte until another thread sets it, or the repetitions end.  It works row by row: its results can be flags,
those of the first rows set before it waits in the last.
"""

from __future__ import annotations

from functools import cache
from timeit import repeat

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..contract import Array

CACHE_LINE_BYTES = 128  # two lines: processors fetch them in pairs
TRUE, FLAG, UNUSED = 0, 1, 2  # bytes of a line
MEASURED_TIMES = 1 << 14


def new_lines(n: int) -> Array:
    """n lines (n, 3), far apart in memory: True, a flag that is not set, and a byte for a result that nobody needs."""
    lines = np.zeros((n, CACHE_LINE_BYTES), dtype=bool)[:, : UNUSED + 1]
    lines[:, TRUE] = True
    return lines


def repeated(flags: Array, times: int) -> Array:
    """flags (n,)  ->  (n, times), without a copy."""
    return as_strided(flags, (len(flags), times), (flags.strides[0], 0))


def spin(flags: Array, results: Array) -> None:
    """Write into results (n,) whether each of flags (n, times) is True, waiting for one after the other."""
    np.logical_or.reduce(flags, axis=1, out=results)


@cache
def times_in(seconds: float) -> int:
    """The repetitions that take `seconds` here."""
    never, result = repeated(np.zeros(1, dtype=bool), MEASURED_TIMES), np.zeros(1, dtype=bool)
    measured = min(repeat(lambda: spin(never, result), number=1, repeat=5))
    return max(1, int(seconds / measured * MEASURED_TIMES))
