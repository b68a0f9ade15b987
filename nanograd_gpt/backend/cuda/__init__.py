"""The kernels for CuPy arrays: the formulas of backend/plain, some replaced by the kernels named here.

Imports CuPy, so it is imported on demand only.
"""

from __future__ import annotations

import cupy as xp

from ..plain.kernels import *
from .activation import gelu, gelu_backward, linear_gelu, linear_gelu_backward
from .attention import causal_attention, causal_attention_backward
from .cached_attention import cached_attention
from .cast import without_bfloat16
from .dropout import dropout, dropout_add, keep_mask
from .embedding import embedding, embedding_backward
from .loss import cross_entropy, cross_entropy_backward, linear_cross_entropy, linear_cross_entropy_backward
from .matmul import (
    linear,
    linear_backward,
    matrix_product,
    packed_linear,
    packed_linear_backward,
    product_weights,
)
from .norm import layer_norm, layer_norm_backward
from .optimizer import PARAMETER_ALIGNMENT, adamw, clip_scale
