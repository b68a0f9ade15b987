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
    N, C, size = batch_size * model.context_length, model.emb_dim, _result_bytes()
    outside = BYTES * (C + 2) + size * C  # the final norm's input, and the head's
    saved = N * (model.n_layers * _saved_by_block(model) + outside)
    block = (2 * BYTES + 8 * size) * N * C  # the gradients of its output and input, and of both sides of GELU
    rounded = size * 12 * C * C * model.n_layers if size < BYTES else 0  # the blocks' weights, from forward to backward
    return 4 * BYTES * model.n_parameters + rounded + saved + max(_head_bytes(model, N), block)


def _result_bytes() -> int:
    """Bytes of a number that is a layer's result, in the precision in force."""
    return BF16_BYTES if precision() == "bf16" else BYTES


def _saved_by_block(model: GPTConfig) -> int:
    """Bytes that a block saves for a token: its layers' inputs, and attention's mask."""
    C, H, T = model.emb_dim, model.n_heads, model.context_length
    floats = BYTES * (2 * C + H + 4)  # the norms' inputs; a log-sum-exp per head; two means and deviations
    results = 14  # of norm1, Q/K/V's projection (3), attention, norm2, and the feed-forward's first (4), GELU (4)
    words = 4 * H * -(-T // 32) if model.drop_rate else 0  # a bit for each key; other masks are drawn again in backward
    return floats + _result_bytes() * results * C + words


def _head_bytes(model: GPTConfig, N: int) -> int:
    """Bytes of the logits, which become their gradient in place, and of the gradient by the head's input."""
    size, V, C = _result_bytes(), model.vocab_size, model.emb_dim
    logits = size * N * V
    if logits > GPU_LOGITS_BYTES:
        logits = 2 * GPU_LOGITS_BYTES  # two chunks
    rounded = size * V * C if size < BYTES else 0  # the head's weight
    return logits + 2 * size * N * C + rounded
