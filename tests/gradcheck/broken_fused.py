"""Broken rules of the fused operations: GELU, layer norm, attention, embedding, dropout and the losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erf, pi, sqrt
from typing import Any

import numpy as np

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.backend.plain.loss import chunks
from nanograd_gpt.ops.activation import GELU
from nanograd_gpt.ops.attention import CausalAttention
from nanograd_gpt.ops.dropout import Dropout, DropoutAdd
from nanograd_gpt.ops.embedding import Embedding
from nanograd_gpt.ops.loss import CrossEntropy, LinearCrossEntropy
from nanograd_gpt.ops.norm import LayerNorm

from .broken_matmul import flat, gelu_derivative
from .broken_reduce import mean, softmax
from .broken_rules import Operation, Rule, in_float32, true
from .broken_shape import assigned


def erf_gelu_derivative(x: Array) -> Array:
    """The derivative of x Phi(x), the exact GELU."""
    cumulative = np.vectorize(lambda a: 0.5 * (1 + erf(a / sqrt(2))), otypes=[float])
    return cumulative(x) + x * np.exp(-x * x / 2) / sqrt(2 * pi)


def layer_norm_rule(
    ddof: int = 0,
    eps_factor: float = 1.0,
    mean_term: float = 1.0,
    norm_term: float = 1.0,
    scale_first: bool = True,
    cast: Callable[[Array], Array] = lambda a: a,
) -> Rule:
    """LayerNorm's rule with one thing or another changed in what x gets."""

    def rule(dy: Array, x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> list[Array]:
        C = x.shape[-1]
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).sum(axis=-1, keepdims=True) / max(1, C - ddof)
        rstd = 1 / np.sqrt(variance + eps_factor * eps)
        norm = cast(centred * rstd)
        g = dy * scale if scale_first else dy
        dx = g - mean_term * mean(g, -1) - norm * norm_term * mean(g * norm, -1)
        return [dx * rstd * (1 if scale_first else scale), *true(LayerNorm, dy, x, scale, shift, eps=eps)[1:]]

    return rule


def of_scale(change: Callable[[Array, Array, Array, Array], Sequence[Array]]) -> Rule:
    """LayerNorm's dx, and what `change(dy, x, dscale, dshift)` makes of the other two."""

    def rule(dy: Array, x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> list[Array]:
        dx, dscale, dshift = true(LayerNorm, dy, x, scale, shift, eps=eps)
        return [dx, *change(dy, x, dscale, dshift)]

    return rule


def attention_rule(
    diagonal: int = 0,
    power: float = 0.5,
    sum_term: bool = True,
    drop: Callable[[Array, Any, float], Array] = cpu.dropout,
    drop_values: bool = True,
    causal: bool = True,
    order: tuple[int, int, int] = (0, 1, 2),
) -> Rule:
    """CausalAttention's rule with one thing or another changed.

    diagonal: of the mask; power: the scale is 1 / D ** power; drop: how the gradient passes dropout; drop_values:
    whether dv sees dropout; causal: whether scores that were masked get no gradient; order: of dq, dk, dv.
    """

    def rule(dy: Array, qkv: Array, n_heads: int, keep: Any = None, rate: float = 0.0) -> list[Array]:
        B, T, C3 = qkv.shape
        q, k, v = qkv.reshape(B, T, 3, n_heads, -1).transpose(2, 0, 3, 1, 4) if qkv.size else np.empty((3, 0, 1, T, 1))
        D = q.shape[-1]
        scores = np.where(np.tri(T, k=diagonal, dtype=bool), q @ k.swapaxes(-1, -2) / sqrt(D), -np.inf)
        weights = softmax(scores, -1)
        dcontext = dy.reshape(B, T, n_heads, D).swapaxes(1, 2)
        dweights = dcontext @ v.swapaxes(-1, -2)
        used = weights if keep is None or not drop_values else cpu.dropout(weights, keep, rate)
        if keep is not None:
            dweights = drop(dweights, keep, rate)
        row = (dweights * weights).sum(-1, keepdims=True) if sum_term else 0
        dscores = (weights if causal else weights + 1e-9) * (dweights - row) / D**power
        parts = [dscores @ k, dscores.swapaxes(-1, -2) @ q, used.swapaxes(-1, -2) @ dcontext]
        return [np.concatenate([parts[i].swapaxes(1, 2).reshape(B, T, C3 // 3) for i in order], axis=-1)]

    return rule


def embedding_averaged(dy: Array, weight: Array, ids: Array) -> list[Array]:
    (dweight,) = true(Embedding, dy, weight, ids=ids)
    times = np.bincount(ids.ravel(), minlength=len(weight))
    return [dweight / np.maximum(1, times)[:, None]]


def cross_entropy_rule(
    axis: int = -1, one: float = 1.0, shift: int = 0, over: Callable[[Array], int] = len, with_dloss: bool = True
) -> Rule:
    def rule(dloss: Array, logits: Array, targets: Array) -> list[Array]:
        d = softmax(logits, axis)
        d[np.arange(len(targets)), (targets + shift) % logits.shape[1]] -= one
        return [d * (dloss if with_dloss else 1) / over(logits)]

    return rule


def head_rule(
    some: Callable[[list[slice]], list[slice]] = lambda parts: parts,
    overwrite: bool = False,
    own_length: bool = False,
    first_rows: bool = False,
) -> Rule:
    """LinearCrossEntropy's rule with some chunks left out, or put together wrongly."""

    def rule(dloss: Array, x: Array, weight: Array, targets: Array) -> list[Array]:
        dx, dweight = np.zeros(x.shape), np.zeros(weight.shape)
        for part in some(list(chunks(len(x), len(weight)))):
            rows = x[: part.stop - part.start] if first_rows else x[part]
            share = dloss * (1 if own_length else len(rows) / len(x))
            dlogits = true(CrossEntropy, share, x[part] @ weight.T, targets=targets[part])[0]
            dx[part] = dlogits @ weight
            dweight = dlogits.T @ rows + (0 if overwrite else dweight)
        return [dx, dweight]

    return rule


FUSED: dict[Operation, dict[str, Rule]] = {
    GELU: {
        "0.0447 for 0.044715": lambda dy, x: (dy * gelu_derivative(x, cubic=0.0447),),
        "factor 3 of the cubic forgotten": lambda dy, x: (dy * gelu_derivative(x, factor=1.0),),
        "sqrt(2/pi) to four digits": lambda dy, x: (dy * gelu_derivative(x, root=0.7979),),
        "the exact GELU's": lambda dy, x: (dy * erf_gelu_derivative(x),),
        "float32 on the way": lambda dy, x: (dy * in_float32(gelu_derivative(x)),),
    },
    LayerNorm: {
        "eps forgotten": layer_norm_rule(eps_factor=0.0),
        "another eps": layer_norm_rule(eps_factor=0.1),
        "unbiased variance": layer_norm_rule(ddof=1),
        "mean term forgotten": layer_norm_rule(mean_term=0.0),
        "variance term forgotten": layer_norm_rule(norm_term=0.0),
        "variance term doubled": layer_norm_rule(norm_term=2.0),
        "scale after the means": layer_norm_rule(scale_first=False),
        "float32 on the way": layer_norm_rule(cast=in_float32),
        "scale from x not normalised": of_scale(lambda dy, x, dscale, dshift: (flat(dy * x).sum(0), dshift)),
        "scale and shift swapped": of_scale(lambda dy, x, dscale, dshift: (dshift, dscale)),
        "shift averaged over rows": of_scale(lambda dy, x, dscale, dshift: (dscale, dshift / max(1, len(flat(dy))))),
        "scale summed over the first axis alone": of_scale(lambda dy, x, dscale, dshift: (dscale, dy.sum(axis=0))),
    },
    CausalAttention: {
        "scale forgotten": attention_rule(power=0.0),
        "1 / D for 1 / sqrt(D)": attention_rule(power=1.0),
        "sees the next token": attention_rule(diagonal=1),
        "does not see itself": attention_rule(diagonal=-1),
        "masked scores get a little": attention_rule(causal=False),
        "softmax's sum term forgotten": attention_rule(sum_term=False),
        "dq and dk swapped": attention_rule(order=(1, 0, 2)),
        "dk and dv swapped": attention_rule(order=(0, 2, 1)),
        "dropout's mask forgotten": attention_rule(drop=lambda g, keep, rate: g / (1 - rate)),
        "dropout's scale forgotten": attention_rule(drop=lambda g, keep, rate: g * keep),
        "dropout's scale squared": attention_rule(drop=lambda g, keep, rate: g * keep / (1 - rate) ** 2),
        "values from weights before dropout": attention_rule(drop_values=False),
    },
    Embedding: {
        "assigned where ids repeat": lambda dy, weight, ids: assigned(dy, weight, ids),
        "averaged where ids repeat": embedding_averaged,
        "one row too far": lambda dy, weight, ids: true(Embedding, dy, weight, ids=(ids + 1) % len(weight)),
        "one of the batch forgotten": lambda dy, weight, ids: (
            true(Embedding, dy[1:], weight, ids=ids[1:]) if ids.ndim > 1 else true(Embedding, dy, weight, ids=ids)
        ),
    },
    Dropout: {
        "mask forgotten": lambda dy, x, keep, rate: (dy / (1 - rate),),
        "mask inverted": lambda dy, x, keep, rate: (dy * ~keep / (1 - rate),),
        "scale forgotten": lambda dy, x, keep, rate: (dy * keep,),
        "scale squared": lambda dy, x, keep, rate: (dy * keep / (1 - rate) ** 2,),
        "divided by the rate": lambda dy, x, keep, rate: (dy * keep / (rate or 1),),
        "in place": lambda dy, x, keep, rate: (np.multiply(dy, keep / (1 - rate), out=dy),),
    },
    DropoutAdd: {
        "mask forgotten": lambda dy, x, residual, keep, rate: (dy / (1 - rate), dy),
        "scale forgotten": lambda dy, x, residual, keep, rate: (dy * keep, dy),
        "the residual dropped too": lambda dy, x, residual, keep, rate: (dy * keep / (1 - rate),) * 2,
        "x and residual swapped": lambda dy, x, residual, keep, rate: (dy, dy * keep / (1 - rate)),
        "in place": lambda dy, x, residual, keep, rate: (np.multiply(dy, keep / (1 - rate), out=dy), dy),
    },
    CrossEntropy: {
        "not divided by n": cross_entropy_rule(over=lambda logits: 1),
        "divided by the vocabulary": cross_entropy_rule(over=lambda logits: logits.shape[1]),
        "target's 1 forgotten": cross_entropy_rule(one=0.0),
        "1 off the next token": cross_entropy_rule(shift=1),
        "softmax over the rows": cross_entropy_rule(axis=0),
        "dloss taken for 1": cross_entropy_rule(with_dloss=False),
    },
    LinearCrossEntropy: {
        "last chunk forgotten": head_rule(some=lambda parts: parts[:-1] or parts),
        "each chunk over the others": head_rule(overwrite=True),
        "each chunk's own mean": head_rule(own_length=True),
        "every chunk with the first rows": head_rule(first_rows=True),
        "x and weight swapped": lambda dloss, *inputs, targets: true(
            LinearCrossEntropy, dloss, *inputs, targets=targets
        )[::-1],
        "weight transposed": lambda dloss, x, weight, targets: [
            (gs := true(LinearCrossEntropy, dloss, x, weight, targets=targets))[0], gs[1].T
        ],
        "not divided by n": lambda dloss, x, weight, targets: true(
            LinearCrossEntropy, dloss * len(x), x, weight, targets=targets
        ),
    },
}  # fmt: skip
