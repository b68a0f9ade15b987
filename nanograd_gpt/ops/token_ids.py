"""Checks of token ids before they index anything."""

from __future__ import annotations

import numpy as np

from ..backend.contract import Ints


def check_ids(ids: Ints, n: int) -> Ints:
    """The ids, checked to be integers in 0 .. n - 1: NumPy would count negative ones from the end.

    Values are checked on the host only: reading a GPU's would wait for it.
    Raises TypeError for an array that is not of integers, IndexError for an id out of range.
    """
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids are of {ids.dtype}, expected integers")
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < n:
        raise IndexError(f"ids {ids.min()} .. {ids.max()} reach outside 0 .. {n - 1}")
    return ids
