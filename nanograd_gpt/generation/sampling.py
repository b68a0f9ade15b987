"""Choosing the next token from its logits: greedily, or by sampling from the tokens that the filters keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from ..arguments import real_number, whole_number
from ..backend.array_namespace import array_namespace
from ..backend.contract import Array, Bools, Ints
from ..backend.plain.activation import softmax
from ..backend.select import to_device, to_host
from ..errors import InputError, RunError
from ..rng import RandomStream, index_at

MIN_TEMPERATURE = 1e-30  # a lower one could overflow float32; this one is greedy already


@dataclass(frozen=True)
class Sampling:
    """Settings for choosing the next token from its logits, applied in this order.

    repetition_penalty  float in [0.01, 100] [1.0]: above 1, tokens already in the text become less likely
    temperature         float >= 0 [0.0]: divides the logits; 0 takes the most likely token, whatever follows
    top_k               int in 1 .. V, or None [None]: keep the k most likely tokens
    top_p               float in (0, 1] [1.0]: keep the most likely tokens that together reach this probability
    min_p               float in [0, 1] [0.0]: keep tokens with at least this share of the highest probability

    Tokens that tie with the last one kept are kept too, so the choice does not depend on the order of the vocabulary.
    Raises InputError for a setting out of range.  Sources: Keskar et al. 2019 (repetition_penalty), Fan et al. 2018
    (top_k), Holtzman et al. 2020 (top_p), Nguyen et al. 2024 (min_p).

    >>> import numpy as np
    >>> import nanograd_gpt as ng
    >>> logits = np.repeat([[2.0, 1.0, 0.0, -1.0]], 1000, axis=0)
    >>> tokens = next_tokens(logits, Sampling(temperature=1.0, top_k=2), rng=ng.Generator(1))
    >>> np.bincount(tokens, minlength=4).tolist()  # exp(2) : exp(1) is 731 : 269
    [745, 255, 0, 0]
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        if self.top_k is not None:
            object.__setattr__(self, "top_k", whole_number("top_k", self.top_k))
        for name, allowed, what in (
            ("temperature", 0 <= self.temperature < inf, "a finite number >= 0"),
            ("top_p", 0 < self.top_p <= 1, "a number in (0, 1]"),
            ("min_p", 0 <= self.min_p <= 1, "a number in [0, 1]"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "a number in [0.01, 100]; 1 is none"),
        ):
            if not allowed:  # nan fails every comparison
                raise InputError(f"{name}: {getattr(self, name)} is not allowed; choose {what}")

    def check(self, vocab_size: int) -> None:
        """Raise InputError for a top_k outside 1 .. V."""
        if self.top_k is not None and not 1 <= self.top_k <= vocab_size:
            raise InputError(f"top_k: {self.top_k} is not allowed; choose 1 .. {vocab_size} (the vocabulary)")


def next_tokens(logits: Array, sampling: Sampling, rng: RandomStream, texts: Sequence[Ints] = ()) -> Ints:
    """logits (B, V)  ->  a token for each row (B,); the repetition penalty applies to the tokens in `texts`, one a row.

    The tokens are on the host.  From logits on a GPU they are chosen there, and copying them is all that waits for it;
    for a TorchStream, which draws a number for each probability, the probabilities are copied.
    Raises RunError for logits that are not finite.
    """
    if sampling.repetition_penalty != 1:
        logits = penalize_repetition(logits, texts, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return _on_host(logits.argmax(axis=-1), logits.max(axis=-1))  # the largest is nan if there is one
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    logits = logits / np.float32(max(sampling.temperature, MIN_TEMPERATURE))
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = keep_min_p(logits, sampling.min_p)
    return _drawn(softmax(logits, axis=-1), rng)


def _drawn(probabilities: Array, rng: RandomStream) -> Ints:
    """probabilities (B, V)  ->  a token for each row (B,), on the host"""
    points = None if isinstance(probabilities, np.ndarray) else rng.multinomial_points(len(probabilities))
    if points is not None:
        return _on_host(index_at(to_device(points, "cuda"), probabilities), probabilities[:, 0])
    probabilities = to_host(probabilities)
    _check(np.isfinite(probabilities[:, 0]))  # a row's are all nan if one of its logits is not finite
    return rng.multinomial(probabilities)


def _on_host(tokens: Ints, numbers: Array) -> Ints:
    """Return the tokens (B,) on the host.  Raises RunError if one of the numbers (B,) is not finite."""
    xp = array_namespace(tokens)
    tokens = to_host(xp.where(xp.isfinite(numbers), tokens, -1))  # so that one copy brings both
    _check(tokens >= 0)
    return tokens


def _check(finite: Bools) -> None:
    if not finite.all():
        raise RunError("sampling: the model's logits are not finite; its training has diverged")


def penalize_repetition(logits: Array, texts: Sequence[Ints], penalty: float) -> Array:
    """logits (B, V), B texts (T,)  ->  (B, V): for tokens in the text, divide positive logits, multiply the others"""
    xp, (B, V) = array_namespace(logits), logits.shape
    places = np.concatenate([b * V + np.unique(text) for b, text in zip(range(B), texts, strict=True)])
    places = xp.asarray(places)
    logits = logits.copy()
    flat = logits.reshape(-1)
    seen = flat[places]
    flat[places] = xp.where(seen > 0, seen / penalty, seen * penalty)
    return logits


def keep_top_k(logits: Array, top_k: int) -> Array:
    """logits (B, V)  ->  (B, V), with -inf below the row's k-th largest"""
    xp = array_namespace(logits)
    smallest_kept = -xp.partition(-logits, top_k - 1, axis=-1)[:, top_k - 1, None]  # few of the first: fast with CuPy
    return xp.where(logits < smallest_kept, -xp.inf, logits)


def keep_top_p(logits: Array, top_p: float) -> Array:
    """logits (B, V)  ->  (B, V), with -inf where more likely tokens reach the probability top_p already"""
    xp = array_namespace(logits)
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    descending = -xp.sort(-probabilities, axis=-1)
    before = xp.cumsum(descending, axis=-1) - descending  # probability of all more likely tokens; the first: 0
    smallest_kept = xp.where(before < top_p, descending, xp.inf).min(axis=-1, keepdims=True)
    return xp.where(probabilities < smallest_kept, -xp.inf, logits)


def keep_min_p(logits: Array, min_p: float) -> Array:
    """logits (B, V)  ->  (B, V), with -inf where the probability is below min_p times the highest"""
    xp = array_namespace(logits)
    ratio = xp.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return xp.where(ratio < min_p, -xp.inf, logits)
