"""Choosing the next token from its logits: greedily, or by sampling from the tokens that the filters keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from ..arguments import real_number, whole_number
from ..backend.contract import HostArray, Ints
from ..backend.plain.activation import softmax
from ..errors import InputError, RunError
from ..rng import RandomStream

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


def next_tokens(logits: HostArray, sampling: Sampling, rng: RandomStream, texts: Sequence[Ints] = ()) -> Ints:
    """logits (B, V)  ->  a token for each row (B,); the repetition penalty applies to the tokens in `texts`, one a row.

    Raises RunError for logits that are not finite.
    """
    if sampling.repetition_penalty != 1:
        logits = penalize_repetition(logits, texts, sampling.repetition_penalty)
    if sampling.temperature == 0:
        most_likely: Ints = logits.argmax(axis=-1)
        _check_finite(np.take_along_axis(logits, most_likely[:, None], axis=-1))  # argmax returns a nan if there is one
        return most_likely
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    logits = logits / np.float32(max(sampling.temperature, MIN_TEMPERATURE))
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = keep_min_p(logits, sampling.min_p)
    probabilities = softmax(logits, axis=-1)
    _check_finite(probabilities)
    return rng.multinomial(probabilities)


def _check_finite(numbers: HostArray) -> None:
    if not np.isfinite(numbers).all():
        raise RunError("sampling: the model's logits are not finite; its training has diverged")


def penalize_repetition(logits: HostArray, texts: Sequence[Ints], penalty: float) -> HostArray:
    """logits (B, V), B texts (T,)  ->  (B, V): for tokens in the text, divide positive logits, multiply the others"""
    logits = logits.copy()
    for row, text in zip(logits, texts, strict=True):
        seen = np.unique(text)
        row[seen] = np.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
    return logits


def keep_top_k(logits: HostArray, top_k: int) -> HostArray:
    """logits (B, V)  ->  (B, V), with -inf below the row's k-th largest"""
    smallest_kept = np.partition(logits, -top_k, axis=-1)[:, -top_k, None]
    return np.where(logits < smallest_kept, -np.inf, logits)


def keep_top_p(logits: HostArray, top_p: float) -> HostArray:
    """logits (B, V)  ->  (B, V), with -inf where more likely tokens reach the probability top_p already"""
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    descending = -np.sort(-probabilities, axis=-1)
    before = np.cumsum(descending, axis=-1) - descending  # probability of all more likely tokens
    n_kept = np.maximum(1, (before < top_p).sum(axis=-1, keepdims=True))
    smallest_kept = np.take_along_axis(descending, n_kept - 1, axis=-1)
    return np.where(probabilities < smallest_kept, -np.inf, logits)


def keep_min_p(logits: HostArray, min_p: float) -> HostArray:
    """logits (B, V)  ->  (B, V), with -inf where the probability is below min_p times the highest"""
    ratio = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.where(ratio < min_p, -np.inf, logits)
