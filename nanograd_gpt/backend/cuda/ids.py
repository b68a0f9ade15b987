"""Token ids as the kernels take them."""

from __future__ import annotations

import cupy

from ..contract import Ints
from .launch import ALIGNMENT, address


def as_ids(ids: Ints) -> Ints:
    """ids (...)  ->  the same in int64, contiguous and aligned; copied only where they are not."""
    if ids.dtype == cupy.int64 and ids.flags.c_contiguous and address(ids) % ALIGNMENT == 0:
        return ids
    copied: Ints = cupy.array(ids, dtype=cupy.int64, order="C")
    return copied
