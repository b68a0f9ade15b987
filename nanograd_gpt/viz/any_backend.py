"""matplotlib, imported whatever MPLBACKEND says: our figures need no backend, but the import fails for a foreign one.

Jupyter's kernels set the variable for every process they start, and such a backend need not be installed beside us.
"""

from __future__ import annotations

import contextlib
import os
import sys

if "matplotlib" not in sys.modules:
    _wanted = os.environ.pop("MPLBACKEND", "")
    try:
        import matplotlib
    finally:
        if _wanted:
            os.environ["MPLBACKEND"] = _wanted
    if _wanted:
        with contextlib.suppress(ValueError):  # matplotlib knows no such backend: pyplot will choose one, if it is used
            matplotlib.rcParams["backend"] = _wanted  # for pyplot, as matplotlib does itself
