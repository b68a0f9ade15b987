"""A look at ids before they index anything."""

from __future__ import annotations

import numpy as np

from ..backend.contract import Ints


def within(ids: Ints, n: int) -> Ints:
    """The ids, seen to be in 0 .. n - 1: NumPy would count negative ones from the end.  Raises IndexError.

    Only where they are on the host: a look at a GPU's would have to wait for it.
    """
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < n:
        raise IndexError(f"ids {ids.min()} .. {ids.max()} reach outside 0 .. {n - 1}")
    return ids
