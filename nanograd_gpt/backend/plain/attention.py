"""Causal multi-head attention (Vaswani et al. 2017): softmax(Q K^T / sqrt(D)) V, later keys masked.

Only the scores' log-sum-exp is kept; backward recomputes the T x T weights of each head (Dao et al. 2022).
"""

from __future__ import annotations

from math import sqrt

from ..array_namespace import array_namespace
from ..contract import Array, Bools, Ints
from .activation import log_sum_exp, softmax, softmax_backward
from .dropout import dropout

QUERY_BLOCK = 64  # queries; bounds the memory for scores, and skips most masked keys


def heads(qkv: Array, n_heads: int) -> tuple[Array, Array, Array]:
    """(B, T, 3C) -> three views (B, H, T, D)"""
    B, T, C3 = qkv.shape
    q, k, v = qkv.reshape(B, T, 3, n_heads, C3 // 3 // n_heads).transpose(2, 0, 3, 1, 4)
    return q, k, v


def split(x: Array, n_heads: int) -> Array:
    """(B, T, C) -> (B, H, T, D)"""
    B, T, C = x.shape
    return x.reshape(B, T, n_heads, C // n_heads).swapaxes(1, 2)


def masked_scores(q: Array, k: Array) -> Array:
    """q, k (B, H, T, D)  ->  Q K^T / sqrt(D) (B, H, T, T), with -inf for later keys"""
    return scaled_and_masked(q @ k.swapaxes(-1, -2), q.shape[-1])


def scaled_and_masked(scores: Array, D: int) -> Array:
    """scores (B, H, T, T), in place  ->  over sqrt(D), with -inf for later keys"""
    xp = array_namespace(scores)
    scores *= 1 / sqrt(D)  # before the mask: -inf times a complex number is nan
    return xp.where(xp.tri(scores.shape[-1], dtype=bool), scores, -xp.inf)


def causal_attention(qkv: Array, n_heads: int, keep: Bools | None, rate: float) -> tuple[Array, Array]:
    q, k, v = heads(qkv, n_heads)
    scores = masked_scores(q, k)
    lse = log_sum_exp(scores, axis=-1)
    weights = array_namespace(qkv).exp(scores - lse)
    used = weights if keep is None else dropout(weights, keep, rate)
    B, T, C3 = qkv.shape
    context = (used @ v).swapaxes(1, 2).reshape(B, T, C3 // 3)
    return context, lse


def causal_attention_backward(
    dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Bools | None, rate: float
) -> Array:
    del context
    xp = array_namespace(qkv)
    q, k, v = heads(qkv, n_heads)
    dcontext = split(dy, n_heads)  # (B, H, T, D)
    weights = xp.exp(masked_scores(q, k) - lse)
    used = weights if keep is None else dropout(weights, keep, rate)
    dweights = dcontext @ v.swapaxes(-1, -2)  # (B, H, T, T)
    if keep is not None:
        dweights = dropout(dweights, keep, rate)
    dscores = softmax_backward(dweights, weights, axis=-1)  # 0 where masked: the weight is 0
    dscores *= 1 / sqrt(q.shape[-1])
    dqkv = xp.empty(qkv.shape, dtype=dscores.dtype)
    dq, dk, dv = heads(dqkv, n_heads)
    dq[...] = dscores @ k
    dk[...] = dscores.swapaxes(-1, -2) @ q
    dv[...] = used.swapaxes(-1, -2) @ dcontext
    return dqkv


def cached_attention(qkv: Array, keys: Array, values: Array, slots: Ints, stop: int) -> Array:
    xp = array_namespace(qkv)
    B, T, C3 = qkv.shape
    q, k, v = heads(qkv, keys.shape[1])
    rows = xp.arange(B)[:, None]
    keys[rows, :, slots] = k.swapaxes(1, 2)  # (B, T, H, D): advanced indices go first
    values[rows, :, slots] = v.swapaxes(1, 2)
    context = xp.empty((B, T, C3 // 3), dtype=qkv.dtype)
    for start in range(0, T, QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        seen = stop - max(0, T - start - QUERY_BLOCK)  # upper bound for this block's queries
        result = _attend_up_to(slots[:, block], q[:, :, block], keys[:, :, :seen], values[:, :, :seen])
        context[:, block] = result.swapaxes(1, 2).reshape(context[:, block].shape)
    return context


def _attend_up_to(last: Ints, q: Array, keys: Array, values: Array) -> Array:
    """last (B, T), q (B, H, T, D), keys and values (B, H, S, D)  ->  (B, H, T, D)"""
    xp = array_namespace(q)
    scores = q @ keys.swapaxes(-1, -2)  # (B, H, T, S)
    scores *= 1 / sqrt(q.shape[-1])
    unseen = xp.arange(keys.shape[2]) > last[:, None, :, None]  # (B, 1, T, S)
    weights = softmax(xp.where(unseen, -xp.inf, scores), axis=-1)
    return weights @ values
