"""Causal attention in blocks of queries, which skip later keys.  The formulas are plain/attention.py's.

Heads are independent: threads take a few of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from ..contract import Array, Bools, Ints
from ..plain import attention as plain
from ..plain.activation import softmax
from .blocks import blocks, is_worth_sharing
from .threads import n_threads, parallel_for, with_blas_threads, with_single_blas_thread

HeadTile: TypeAlias = tuple[slice, slice]  # rows of the batch, heads

QUERY_BLOCK = 64  # queries; smaller blocks skip more keys, larger ones multiply faster
SCORE_BLOCK_ELEMENTS = 1 << 17  # a thread's scores, which stay in the cache
COST = 40  # of a score, in multiplications


def causal_attention(qkv: Array, n_heads: int, keep: Bools | None, rate: float) -> tuple[Array, Array]:
    B, T, C3 = qkv.shape
    q, k, v = plain.heads(qkv, n_heads)
    D = q.shape[-1]
    context = np.empty((B, T, C3 // 3), dtype=qkv.dtype)
    context_ = plain.split(context, n_heads)
    lse = np.empty((B, n_heads, T, 1), dtype=qkv.dtype)

    def attend(tile: HeadTile) -> None:
        scaled = q[tile] * (1 / sqrt(D))  # (b, h, T, D)
        for queries, seen in _query_blocks(T):
            scores = scaled[:, :, queries] @ k[tile][:, :, seen].swapaxes(-1, -2)
            scores[..., queries] += _causal_mask(scores.shape[-2], scores.real.dtype)
            largest = _row_max(scores.real)
            scores -= largest
            np.exp(scores, out=scores)
            total = scores.sum(axis=-1, keepdims=True)
            np.add(np.log(total), largest, out=lse[tile][:, :, queries])
            if keep is not None:
                scores *= keep[tile][:, :, queries, seen]
                total *= 1 - rate
            result = np.matmul(scores, v[tile][:, :, seen], out=context_[tile][:, :, queries])
            result /= total

    _parallel_heads(B, n_heads, T, attend)
    return context, lse


def causal_attention_backward(
    dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Bools | None, rate: float
) -> Array:
    del context  # sum(dweights * weights) is sum(dcontext * context) too, as in FlashAttention, but in other bits
    B, T, _ = qkv.shape
    q, k, v = plain.heads(qkv, n_heads)
    D = q.shape[-1]
    dcontext = plain.split(dy, n_heads)
    dqkv = np.empty(qkv.shape, dtype=np.result_type(qkv.dtype, dy.dtype))
    dq, dk, dv = plain.heads(dqkv, n_heads)

    def attend(tile: HeadTile) -> None:
        scaled, d = q[tile] * (1 / sqrt(D)), dcontext[tile]
        if keep is not None:
            d = d * (1 / (1 - rate))
        dk_sum, dv_sum = np.zeros((2, *scaled.shape), dtype=dqkv.dtype)
        for queries, seen in _query_blocks(T):
            keys = k[tile][:, :, seen]
            weights = scaled[:, :, queries] @ keys.swapaxes(-1, -2)
            weights[..., queries] += _causal_mask(weights.shape[-2], weights.real.dtype)
            weights -= lse[tile][:, :, queries]
            np.exp(weights, out=weights)
            dscores = d[:, :, queries] @ v[tile][:, :, seen].swapaxes(-1, -2)  # dweights, so far
            if keep is not None:
                kept = keep[tile][:, :, queries, seen]
                dscores *= kept
            dscores -= np.einsum("bhqk,bhqk->bhq", dscores, weights)[..., None]
            dscores *= weights
            if keep is not None:
                weights *= kept
            dv_sum[:, :, seen] += weights.swapaxes(-1, -2) @ d[:, :, queries]
            dk_sum[:, :, seen] += dscores.swapaxes(-1, -2) @ scaled[:, :, queries]
            np.matmul(dscores, keys, out=dq[tile][:, :, queries])
        dq[tile] *= 1 / sqrt(D)
        dk[tile], dv[tile] = dk_sum, dv_sum

    _parallel_heads(B, n_heads, T, attend)
    return dqkv


def cached_attention(qkv: Array, keys: Array, values: Array, slots: Ints, stop: int) -> Array:
    B, T, _ = qkv.shape
    if stop == T > 1:  # a prompt: nothing was in the cache
        _, keys[:, :, :T], values[:, :, :T] = plain.heads(qkv, keys.shape[1])
        return causal_attention(qkv, keys.shape[1], None, 0.0)[0]
    if B * T != 1:
        return with_blas_threads(lambda: plain.cached_attention(qkv, keys, values, slots, stop))
    return with_single_blas_thread(lambda: _attention_of_one_token(qkv, keys, values, int(slots[0, 0]) + 1))


def _attention_of_one_token(qkv: Array, keys: Array, values: Array, stop: int) -> Array:
    """The token sees every key below stop: no mask."""
    q, k, v = plain.heads(qkv, keys.shape[1])
    keys[:, :, stop - 1 : stop], values[:, :, stop - 1 : stop] = k, v
    scores = (q * (1 / sqrt(q.shape[-1]))) @ keys[:, :, :stop].swapaxes(-1, -2)  # (1, H, 1, S)
    context = softmax(scores, axis=-1) @ values[:, :, :stop]
    return context.reshape(1, 1, -1)


def _query_blocks(T: int) -> list[tuple[slice, slice]]:
    """Blocks of queries, each with the keys that at least one of its queries sees."""
    return [(queries, slice(0, queries.stop)) for queries in blocks(T, _queries_at_once(T))]


def _queries_at_once(T: int) -> int:
    """QUERY_BLOCK, or as near as blocks of equal size come: up to 95 for a T below 96."""
    return max(1, -(-T // max(1, round(T / QUERY_BLOCK))))


def _row_max(scores: Array) -> Array:
    """(b, h, n, seen)  ->  (b, h, n, 1), in less time than np.max takes for short rows."""
    starts = np.arange(0, scores.size, scores.shape[-1])
    return np.maximum.reduceat(scores.reshape(-1), starts).reshape(*scores.shape[:-1], 1)


@cache
def _causal_mask(n: int, dtype: np.dtype[Any]) -> Array:
    """-inf above the diagonal, else 0: adding it is faster than masked assignment."""
    return np.triu(np.full((n, n), -np.inf, dtype=dtype), k=1)


def _parallel_heads(B: int, H: int, T: int, body: Callable[[HeadTile], object]) -> None:
    """Call body with tiles of rows and heads, of about SCORE_BLOCK_ELEMENTS scores in a block of queries."""
    shared = is_worth_sharing(B * H * _queries_at_once(T) * T * COST)  # in each block, threads wait for the GIL anew
    threads = n_threads() if shared else 1
    n_at_once = max(1, SCORE_BLOCK_ELEMENTS // max(1, _queries_at_once(T) * T))
    n_tiles = -(-max(1, B * H) // (n_at_once * threads)) * threads  # where B and H allow it, as many for each thread
    n_rows, n_heads = max(1, -(-B // n_tiles)), -(-H // -(-n_tiles // max(1, B)))
    tiles = [(rows, some_heads) for rows in blocks(B, n_rows) for some_heads in blocks(H, n_heads)]
    parallel_for(tiles, body, shared)
