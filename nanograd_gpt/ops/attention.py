"""Causal self-attention."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array, Keep
from .operands import check_floating, check_keep


class CausalAttention(Function):
    """softmax(Q K^T / sqrt(D)) V per head, where a token attends to itself and earlier ones.

    qkv (B, T, 3C): queries, keys and values, concatenated; keep (B, H, T, T): dropout's mask of the attention weights
    at this rate, or None  ->  context (B, T, C)

    Raises ValueError unless C is a multiple of n_heads, and not 0.
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, qkv: Array, *, n_heads: int, keep: Keep | None = None, rate: float = 0.0) -> Array:
        if qkv.ndim != 3 or n_heads < 1 or qkv.shape[-1] % (3 * n_heads) or not qkv.shape[-1]:
            raise ValueError(
                f"qkv has shape {qkv.shape}, expected (B, T, 3 * C) with C >= 1 a multiple of n_heads {n_heads}"
            )
        B, T, _ = qkv.shape
        check_keep(keep, rate, B, n_heads, T, T)
        context, lse = self.kernels.causal_attention(check_floating(qkv), n_heads, keep, rate)
        self.saved = qkv, context, lse, n_heads, keep, rate
        return context

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (self.kernels.causal_attention_backward(dy, *self.saved),)
