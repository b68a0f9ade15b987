"""The kernels for CuPy arrays: the formulas of backend/plain, some replaced by the CUDA kernels named here.

Imports CuPy, so it is imported on demand only.
"""

from __future__ import annotations

import cupy as xp

from ..plain.kernels import *
from .activation import gelu, gelu_backward, linear_gelu, linear_gelu_backward
from .dropout import dropout, dropout_add, keep_mask
from .norm import layer_norm, layer_norm_backward
from .optimizer import PARAMETER_ALIGNMENT, adamw, clip_scale
