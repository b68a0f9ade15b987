"""The simulated GPU's memory: its owners, the bytes in use, and the contents of uninitialised arrays."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

DTYPES = "?bBhHiIlLqQefdFDE"  # what an array can hold; the last is bfloat16
BLOCK = 512  # bytes: CuPy's pool rounds up to it

owners: WeakValueDictionary[int, Any] = WeakValueDictionary()  # device arrays that are alive and own their memory


def used_bytes() -> int:
    """The memory that CuPy's pool would say is in use."""
    return sum(-(-array.nbytes // BLOCK) * BLOCK for array in list(owners.values()))


def memory_of(host: Any) -> Any:
    """The object at the end of a view's chain of bases: the same for all views of one memory."""
    while getattr(host, "base", None) is not None:
        host = host.base
    return host


def poisoned(host: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Fill uninitialised memory with values that reveal a read: nan, or an integer far out of range."""
    kind = host.dtype.kind
    host.fill(np.nan if kind in "fcV" else kind == "b" or np.iinfo(host.dtype).max)
    return host
