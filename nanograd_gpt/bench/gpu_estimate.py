"""The estimate of the GPU memory that training takes, in the precision in force."""

from __future__ import annotations

from ..backend.logits import GPU_LOGITS_BYTES
from ..backend.precision import precision
from ..gpt.config import GPTConfig
from .estimate import BYTES

BF16_BYTES = 2


def gpu_memory_bytes(model: GPTConfig, batch_size: int) -> int:
    """Estimate the peak of training's arrays on a GPU, which backward reaches.

    Weights, gradients and AdamW's two moments; everything that is saved for backward; temporary arrays.
    """
    N, C = batch_size * model.context_length, model.emb_dim
    saved = N * (model.n_layers * _saved_by_block(model) + BYTES * (2 * C + 2))  # outside: final norm, and the head
    block = 10 * BYTES * N * C  # the gradients of its output, of both sides of GELU, and of its input
    return 4 * BYTES * model.n_parameters + saved + max(_head_bytes(model, N), block)


def _saved_by_block(model: GPTConfig) -> int:
    """Bytes that a block saves for a token: its layers' inputs, Q, K and V, and GELU's derivative; attention's mask."""
    C, H, T = model.emb_dim, model.n_heads, model.context_length
    inputs = 12  # of norm1, Q/K/V's projection, its output (3), out_proj, norm2, and the feed-forward's layers (1 + 4)
    floats = BYTES * ((inputs + 4) * C + H + 4)  # a log-sum-exp per head; two means and deviations
    words = 4 * H * -(-T // 32) if model.drop_rate else 0  # a bit for each key; other masks are drawn again in backward
    rounded = BF16_BYTES * 10 * C if precision() == "bf16" else 0  # inputs of products, and Q, K and V, once more
    return floats + words + rounded


def _head_bytes(model: GPTConfig, N: int) -> int:
    """Bytes of the logits, which become their gradient in place, of one or two chunks; and of the head's gradients."""
    size, V, C = BF16_BYTES if precision() == "bf16" else BYTES, model.vocab_size, model.emb_dim
    logits = size * N * V
    if logits > GPU_LOGITS_BYTES:
        logits = 2 * GPU_LOGITS_BYTES
    return logits + 2 * BYTES * N * C
