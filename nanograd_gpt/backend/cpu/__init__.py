"""The kernels for NumPy arrays."""

from __future__ import annotations

import numpy as xp

from ..plain.activation import log_softmax, log_sum_exp, softmax, softmax_backward
from ..plain.loss import cross_entropy, cross_entropy_backward
from .activation import gelu, gelu_backward, linear_gelu
from .attention import cached_attention, causal_attention, causal_attention_backward
from .dropout import dropout, dropout_add
from .embedding import embedding, embedding_backward
from .loss import linear_cross_entropy, linear_cross_entropy_backward
from .matmul import linear, linear_backward, matrix_product, packed_linear, packed_linear_backward
from .norm import layer_norm, layer_norm_backward
from .optimizer import adamw, squared_norm

__all__ = [
    "adamw",
    "cached_attention",
    "causal_attention",
    "causal_attention_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_add",
    "embedding",
    "embedding_backward",
    "gelu",
    "gelu_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "linear_gelu",
    "log_softmax",
    "log_sum_exp",
    "matrix_product",
    "packed_linear",
    "packed_linear_backward",
    "softmax",
    "softmax_backward",
    "squared_norm",
    "xp",
]
