"""The formulas of all kernels: what a backend starts from.  It imports nothing else, so `import *` takes just these."""

from .activation import (
    gelu,
    gelu_backward,
    linear_gelu,
    linear_gelu_backward,
    log_softmax,
    log_sum_exp,
    softmax,
    softmax_backward,
)
from .attention import cached_attention, causal_attention, causal_attention_backward
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
    without_bfloat16,
)
from .norm import layer_norm, layer_norm_backward
from .optimizer import adamw, clip_scale
