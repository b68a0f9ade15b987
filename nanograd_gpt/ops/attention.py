"""Causal self-attention."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array, Bools


class CausalAttention(Function):
    """softmax(Q K^T / sqrt(D)) V in every head, where a token sees itself and those before it.

    qkv (B, T, 3C): queries, keys and values next to each other; keep (B, H, T, T): which attention weights survive
    dropout at this rate, or None for all  ->  context (B, T, C)
    """

    __slots__ = ()

    def forward(self, qkv: Array, *, n_heads: int, keep: Bools | None = None, rate: float = 0.0) -> Array:
        context, lse = self.kernels.causal_attention(qkv, n_heads, keep, rate)
        self.saved = qkv, lse, n_heads, keep, rate
        return context

    def backward(self, dy: Array) -> tuple[Gradient]:
        qkv, lse, n_heads, keep, rate = self.saved
        return (self.kernels.causal_attention_backward(dy, qkv, lse, n_heads, keep, rate),)
