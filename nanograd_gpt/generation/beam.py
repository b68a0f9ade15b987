"""Beam search: the most likely continuations found by keeping a few candidates at every length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..arguments import not_allowed, real_number, whole_number
from ..backend.contract import HostArray, Ints
from ..backend.plain.activation import log_softmax
from ..backend.select import to_host
from ..errors import RunError
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from .decoder import IncrementalDecoder
from .generate import checked_lengths, checked_prompts

MAX_BYTES = 8 << 30  # of all beams' scores, and keys and values


class Beam(NamedTuple):
    """A text (T + new,) and its score: log probability of the new tokens in nats / number of new tokens ^ penalty."""

    text: Ints
    score: float


def beam_search(
    model: GPTModel,
    prompt: Ints | Sequence[int],
    max_new_tokens: int,
    context_size: int,
    n_beams: int,
    length_penalty: float = 1.0,
    n_best: int = 1,
    eos_id: int | None = None,
    padding: Ints | None = None,
) -> list[Beam]:
    """Search for the most likely continuations of a prompt, keeping n_beams candidates at every length.

    prompt (T,)  ->  n_best Beams with a text (T + new,) and a score in nats, best first

    model               GPTModel; in training mode dropout stays active
    prompt              token ids (T,), T >= 1: an array or a list
    max_new_tokens      int >= 0: upper bound for `new`, in tokens
    context_size        int in 1 .. context_length: tokens the model sees
    n_beams             int >= 1: candidates kept at every length; as many as MAX_BYTES of memory hold
    length_penalty      float in [-10, 10] [1.0]: exponent of the length that divides a log probability.  0 compares log
                        probabilities, which favours short texts; 1 compares their mean per token
    n_best              int in 1 .. n_beams [1]: continuations returned
    eos_id              int or None [None]: ends a text; counts in its score, and is left out of its text
    padding             ids (n,) that stand for no token, never chosen [None]; see padding_ids

    Of the 2 * n_beams most likely extensions, the first n_beams that do not end are kept; one that ends counts if it is
    among the first n_beams.  The search stops when no open candidate can beat n_beams finished ones.
    Raises InputError for settings out of range, RunError for logits of nan.  The penalty is that of Hugging Face's
    beam search.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> for beam in beam_search(model, [1, 2, 3], max_new_tokens=4, context_size=8, n_beams=3, n_best=2):
    ...     print(beam.text, round(beam.score, 2))
    [ 1  2  3 80 92 40 65] -3.36
    [ 1  2  3 80 92 40 67] -3.37
    """
    (text,) = checked_prompts([prompt])
    max_new_tokens, context_size = checked_lengths(model, max_new_tokens, context_size)
    most = _most_beams(model.config, min(context_size, len(text) + max_new_tokens))
    n_beams = whole_number("beams", n_beams, 1, most, f"a number 1 .. {most} (this model's, in {MAX_BYTES >> 30} GiB)")
    n_best = whole_number("n_best", n_best, 1, n_beams, f"1 .. {n_beams} (the number of beams)")
    length_penalty = _checked_penalty(length_penalty)
    eos_id = None if eos_id is None else whole_number("eos_id", eos_id)
    decoder = IncrementalDecoder(model, context_size, len(text) + max_new_tokens, padding)
    active, ended = [Beam(text, 0.0)], list[Beam]()  # the active ones' scores are not divided by the length yet
    for n in range(1, max_new_tokens + 1):
        logits = to_host(decoder.next_logits([beam.text for beam in active], range(len(active))))  # (K, V)
        log_probabilities = log_softmax(logits.astype(np.float64), axis=-1)
        if np.isnan(log_probabilities).any():
            raise RunError("beam search: the model's logits are not finite; its training has diverged")
        total = np.array([[beam.score] for beam in active]) + log_probabilities
        parents, extended = list[int](), list[Beam]()
        for rank, (k, token) in enumerate(_largest(total, 2 * n_beams)):
            score = float(total[k, token])
            if token == eos_id:
                if rank < n_beams:
                    ended.append(Beam(active[k].text, score / n**length_penalty))
            elif len(extended) < n_beams:
                parents.append(k)
                extended.append(Beam(np.append(active[k].text, token), score))
        active, ended = extended, _best(ended, n_beams)
        if not active or _is_over(active, ended, n_beams, max_new_tokens if length_penalty > 0 else n, length_penalty):
            return ended[:n_best]
        decoder.branch(parents)
    length = max(1, max_new_tokens) ** length_penalty
    return _best([*ended, *(Beam(beam.text, beam.score / length) for beam in active)], n_best)


def _most_beams(config: GPTConfig, length: int) -> int:
    """Return the number of beams that fit MAX_BYTES, at least 1."""
    scores = 3 * 8 * config.vocab_size  # logits, log probabilities and totals in float64
    cache = 2 * 4 * config.n_layers * length * config.emb_dim
    return max(1, MAX_BYTES // (scores + cache))


def _largest(total: HostArray, n: int) -> list[tuple[int, int]]:
    """Return the indices of the n largest of (K, V), largest first; ties go to the lower index, -inf is left out."""
    flat = total.reshape(-1)
    n = min(n, flat.size)
    candidates = np.flatnonzero(flat >= np.partition(flat, -n)[-n])
    order = candidates[np.argsort(-flat[candidates], kind="stable")][:n]
    order = order[flat[order] > -np.inf]
    return [(int(k), int(token)) for k, token in zip(*np.divmod(order, total.shape[1]), strict=True)]


def _best(beams: list[Beam], n: int) -> list[Beam]:
    return sorted(beams, key=lambda beam: -beam.score)[:n]


def _is_over(active: list[Beam], ended: list[Beam], n_beams: int, length: int, length_penalty: float) -> bool:
    """Tell whether no active beam can beat the n_beams finished ones, even if its remaining tokens had probability 1.

    `length` is the one that gives the best score: a log probability is negative, so dividing by a power of the length
    favours the longest text, and a negative penalty the shortest.
    """
    return len(ended) == n_beams and active[0].score / length**length_penalty <= ended[-1].score


def _checked_penalty(length_penalty: float) -> float:
    number = real_number("length_penalty", length_penalty, "a number in [-10, 10]")
    if not -10 <= number <= 10:  # beyond, scores underflow to 0 or overflow
        raise not_allowed("length_penalty", length_penalty, "a number in [-10, 10]")
    return number
