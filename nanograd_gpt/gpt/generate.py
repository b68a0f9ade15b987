"""Text from a model: one token at a time, the likeliest or a sampled one."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.select import to_host
from ..errors import InputError, RunError
from ..rng import Generator, RandomStream
from .cache import KVCache
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
    idx = to_host(idx)
    if idx.ndim != 2 or not idx.size:
        raise InputError(f"prompt: expected token ids of shape (B, T) with T >= 1, got shape {idx.shape}")
    texts = generate_texts(model, list(idx), max_new_tokens, context_size, temperature, top_k, eos_id, rng)
    return _side_by_side(texts, fill=0 if eos_id is None else eos_id)  # without eos_id all have one length


generate = generate_text  # the name in the book's own package


def generate_texts(
    model: GPTModel,
    prompts: Sequence[Ints | Sequence[int]],
    max_new_tokens: int,
    context_size: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    rng: RandomStream | None = None,
) -> list[Ints]:
    """generate_text for B prompts of any lengths, each (T,): returns each continued (T + new,), up to its own end.

    A greedy text is what its prompt gives alone.  Raises InputError for no prompts, or one that is no row of tokens.
    """
    texts: list[Ints] = [np.array(p) if isinstance(p, Sequence) else to_host(p).copy() for p in prompts]
    _check(model, texts, max_new_tokens, context_size, temperature, top_k)
    rng = Generator() if rng is None else rng
    reader = _Reader(model, context_size, longest=max(map(len, texts)) + max_new_tokens)
    going = list(range(len(texts)))
    for _ in range(max_new_tokens):
        logits = reader.next_logits(texts, going)  # (B, V)
        chosen = next_tokens(logits, temperature, top_k, rng)  # (B,)
        going = [b for b in going if chosen[b] != eos_id]
        if not going:
            break
        for b in going:
            texts[b] = np.append(texts[b], chosen[b])
    return texts


class _Reader:
    """Asks the model for the next token of several texts.

    A text goes on in a cache as long as it fits the context.  Of a longer one the model sees the last context_size
    tokens, as the book has it, and they begin at position 0 again: each step moves every token, so that nothing can be
    kept and the whole window is read.  So it is in training mode, where dropout's masks are new each time.
    """

    def __init__(self, model: GPTModel, context_size: int, longest: int) -> None:
        self.model, self.context_size = model, context_size
        self.room = min(longest, context_size)
        self.cache: KVCache | None = None
        self.held: list[int] = []  # the text in each row of the cache
        self.logits: HostArray | None = None  # (B, V); a text that has ended keeps its last, and draws on in vain

    def next_logits(self, texts: list[Ints], going: list[int]) -> HostArray:
        """The logits (B, V) after each text, brought up to date for those still going: all of them at first."""
        fitting = [b for b in going if len(texts[b]) <= self.context_size and not self.model.training]
        sliding = sorted(set(going) - set(fitting))
        if fitting:
            self._update(texts, fitting, self._go_on(texts, fitting))
        if sliding:
            self._update(texts, sliding, self._read([texts[b][-self.context_size :] for b in sliding]))
        assert self.logits is not None  # some text is going
        return self.logits

    def _go_on(self, texts: list[Ints], rows: list[int]) -> HostArray:
        if self.cache is None:
            self.cache = self.model.new_cache(len(rows), self.room)
        elif rows != self.held:
            self.cache = self.cache.select(np.flatnonzero(np.isin(self.held, rows)))
        self.held = rows
        new = [texts[b][n:] for b, n in zip(rows, self.cache.lengths, strict=True)]
        return self._read(new, self.cache)

    def _read(self, rows: list[Ints], cache: KVCache | None = None) -> HostArray:
        counts = np.array([len(row) for row in rows])
        return to_host(self.model.next_token_logits(_side_by_side(rows, fill=0), cache, counts).data)

    def _update(self, texts: list[Ints], rows: list[int], logits: HostArray) -> None:
        if self.logits is None:
            self.logits = np.zeros((len(texts), logits.shape[1]), logits.dtype)
        self.logits[rows] = logits


def _side_by_side(rows: list[Ints], fill: int) -> Ints:
    """Rows of any lengths (T,), filled up on the right  ->  (B, T)"""
    ids = np.full((len(rows), max(map(len, rows))), fill, dtype=np.result_type(*rows))
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids


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
    model: GPTModel, prompts: list[Ints], max_new_tokens: int, context_size: int, temperature: float, top_k: int | None
) -> None:
    if not prompts:
        raise InputError("prompts: there are none; give at least one")
    for i, prompt in enumerate(prompts):
        if prompt.ndim != 1 or not prompt.size:
            raise InputError(f"prompts: expected token ids of shape (T,) with T >= 1, got {prompt.shape} in row {i}")
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens: {max_new_tokens} is not allowed; choose a number >= 0")
    if not 1 <= context_size <= model.config.context_length:
        raise InputError(f"context_size: {context_size} is not allowed; choose 1 .. {model.config.context_length}")
    if isnan(temperature) or temperature < 0 or temperature == np.inf:
        raise InputError(f"temperature: {temperature} is not allowed; choose a finite number >= 0")
    if top_k is not None and not 1 <= top_k <= model.config.vocab_size:
        raise InputError(f"top_k: {top_k} is not allowed; choose 1 .. {model.config.vocab_size} (the vocabulary)")
