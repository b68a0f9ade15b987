"""The kernels for CuPy arrays: the formulas of backend/plain.  Imports CuPy, so it is imported on demand only."""

from __future__ import annotations

import cupy as xp

from ..plain.kernels import *
