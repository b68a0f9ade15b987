"""The kernels for NumPy arrays: the formulas of backend/plain, some replaced by the faster kernels named here."""

from __future__ import annotations

import numpy as xp

from ..plain.kernels import *
from .activation import gelu, gelu_backward, linear_gelu, linear_gelu_backward
from .attention import cached_attention, causal_attention, causal_attention_backward
from .dropout import dropout, dropout_add
from .embedding import embedding, embedding_backward
from .loss import linear_cross_entropy, linear_cross_entropy_backward
from .matmul import linear, linear_backward, matrix_product, packed_linear, packed_linear_backward
from .norm import layer_norm, layer_norm_backward
from .optimizer import adamw, clip_scale

PARAMETER_ALIGNMENT = 1
