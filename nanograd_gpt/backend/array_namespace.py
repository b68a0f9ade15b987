"""Which array library an array belongs to."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

from .contract import Array


def array_namespace(array: Array) -> ModuleType:
    """numpy for NumPy's arrays, cupy for CuPy's: the `xp` that a plain formula is written in."""
    if isinstance(array, np.ndarray):
        return np
    cupy = sys.modules.get("cupy")  # an array of CuPy's can only exist once CuPy has been imported
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")
