"""Text from a model: one token at a time, the likeliest or a sampled one."""

from __future__ import annotations

from math import isnan

import numpy as np

from ..autograd import no_grad
from ..backend.contract import HostArray, Ints
from ..backend.select import to_host
from ..errors import InputError, RunError
from ..rng import Generator, RandomStream
from .model import GPTModel

COLDEST = 1e-30  # a lower temperature could overflow float32; this one leaves the likeliest token alone already


def generate_text(
    model: GPTModel,
    idx: Ints,
    max_new_tokens: int,
    context_size: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    rng: RandomStream | None = None,
) -> Ints:
    """Continue every row of idx (B, T) by up to max_new_tokens tokens; returns (B, T + new), on the host.

    temperature 0 takes the likeliest token; above 0 it divides the logits before sampling.  top_k leaves only the k
    likeliest, and whatever ties with the last of them.  A row ends before its first eos_id: it is filled with eos_id
    while others go on, and the text ends when all have ended.  Book section 5.3.
    Raises InputError for an empty or wrongly shaped idx, and for settings out of range; RunError for logits of nan.
    """
    idx = to_host(idx).copy()
    _check(model, idx, max_new_tokens, context_size, temperature, top_k)
    rng = Generator() if rng is None else rng
    ended = np.zeros(len(idx), dtype=bool)
    for _ in range(max_new_tokens):
        with no_grad():
            logits = to_host(model(idx[:, -context_size:]).data[:, -1])  # (B, V)
        chosen = next_tokens(logits, temperature, top_k, rng)  # (B,)
        if eos_id is not None:
            ended |= chosen == eos_id
            chosen[ended] = eos_id
            if ended.all():
                break
        idx = np.concatenate([idx, chosen[:, None]], axis=1)
    return idx


generate = generate_text  # the name in the book's own package


def next_tokens(logits: HostArray, temperature: float, top_k: int | None, rng: RandomStream) -> Ints:
    """logits (B, V)  ->  a token for each row (B,)"""
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if temperature == 0:
        likeliest: Ints = logits.argmax(axis=-1)
        return likeliest
    logits = logits / np.float32(max(temperature, COLDEST))
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    if np.isnan(probabilities).any():
        raise RunError("sampling: the model's logits are not finite; its training has diverged")
    return rng.multinomial(probabilities)


def keep_top_k(logits: HostArray, top_k: int) -> HostArray:
    """logits (B, V), with -inf for all that are smaller than the row's k-th largest"""
    smallest_kept = np.partition(logits, -top_k, axis=-1)[:, -top_k, None]
    return np.where(logits < smallest_kept, -np.inf, logits)


def _check(
    model: GPTModel, idx: Ints, max_new_tokens: int, context_size: int, temperature: float, top_k: int | None
) -> None:
    if idx.ndim != 2 or not idx.size:
        raise InputError(f"prompt: expected token ids of shape (B, T) with T >= 1, got shape {idx.shape}")
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens: {max_new_tokens} is not allowed; choose a number >= 0")
    if not 1 <= context_size <= model.config.context_length:
        raise InputError(f"context_size: {context_size} is not allowed; choose 1 .. {model.config.context_length}")
    if isnan(temperature) or temperature < 0 or temperature == np.inf:
        raise InputError(f"temperature: {temperature} is not allowed; choose a finite number >= 0")
    if top_k is not None and not 1 <= top_k <= model.config.vocab_size:
        raise InputError(f"top_k: {top_k} is not allowed; choose 1 .. {model.config.vocab_size} (the vocabulary)")
