"""Causal attention by the plain formulas, with masks as they take them."""

from __future__ import annotations

from ..contract import Array, Keep
from ..plain import attention as plain
from .dropout import as_bools


def causal_attention(qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> tuple[Array, Array]:
    return plain.causal_attention(qkv, n_heads, None if keep is None else as_bools(keep), rate)


def causal_attention_backward(
    dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Keep | None, rate: float
) -> Array:
    mask = None if keep is None else as_bools(keep)
    return plain.causal_attention_backward(dy, qkv, context, lse, n_heads, mask, rate)
