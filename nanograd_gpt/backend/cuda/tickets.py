"""Counters by which a launch's blocks know the last of them, which adds up what all wrote."""

from __future__ import annotations

from functools import cache

import cupy

from ..contract import Array


@cache
def tickets(n: int) -> Array:
    """n counters (n,), 0 before and after each launch: is_last_block in common.cuh sets them back.

    They are shared by all launches that ask for as many, so these must not overlap, as on one stream.
    """
    return cupy.zeros(n, dtype="I")
