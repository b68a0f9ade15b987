"""The array library of an array."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

from .contract import Array


def array_namespace(array: Array) -> ModuleType:
    """numpy for NumPy's arrays, cupy for CuPy's: the `xp` of the plain formulas."""
    if isinstance(array, np.ndarray):
        return np
    cupy = sys.modules.get("cupy")  # a CuPy array exists only if CuPy has been imported
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")
