"""The kernels for NumPy arrays."""

from __future__ import annotations

import numpy as xp

from ..plain.activation import log_sum_exp, softmax, softmax_backward
from ..plain.attention import cached_attention, causal_attention, causal_attention_backward
from ..plain.dropout import dropout
from ..plain.embedding import embedding, embedding_backward
from ..plain.loss import cross_entropy, cross_entropy_backward, linear_cross_entropy, linear_cross_entropy_backward
from ..plain.matmul import linear, linear_backward, side_by_side, side_by_side_backward
from ..plain.norm import layer_norm, layer_norm_backward
from ..plain.optimizer import squared_norm
from .activation import gelu, linear_gelu
from .optimizer import adamw

__all__ = [
    "adamw",
    "cached_attention",
    "causal_attention",
    "causal_attention_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "embedding",
    "embedding_backward",
    "gelu",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "linear_gelu",
    "log_sum_exp",
    "side_by_side",
    "side_by_side_backward",
    "softmax",
    "softmax_backward",
    "squared_norm",
    "xp",
]
