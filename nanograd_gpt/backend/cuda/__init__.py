"""The kernels for CuPy arrays: the formulas of backend/plain, some replaced by the kernels named here.

Imports CuPy, so it is imported on demand only.
"""

from __future__ import annotations

import cupy as xp

from ..plain.kernels import *
from .matmul import linear, linear_backward, packed_linear, packed_linear_backward
