"""Import of matplotlib under any MPLBACKEND: figures here do not need a backend, but an unknown one fails the import.

Jupyter kernels set the variable for every process they start, where the backend may be missing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

if "matplotlib" not in sys.modules:
    _wanted = os.environ.pop("MPLBACKEND", "")
    try:
        import matplotlib
    finally:
        if _wanted:
            os.environ["MPLBACKEND"] = _wanted
    if _wanted:
        with contextlib.suppress(ValueError):  # unknown: pyplot chooses another one if it is used
            matplotlib.rcParams["backend"] = _wanted  # as matplotlib itself does, for pyplot


@contextlib.contextmanager
def without_variable(name: str) -> Iterator[None]:
    """Hide an environment variable in this block."""
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value
