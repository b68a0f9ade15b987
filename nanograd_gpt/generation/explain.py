"""A model's expectations in a text: the likeliest next tokens, and the probability of the one that came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arguments import whole_number
from ..backend.contract import HostArray, Ints
from ..backend.select import to_host
from ..errors import InputError, RunError
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..tokenizer.encoding import checked_padding

LOGITS = 1 << 22  # held at a time: 16 MiB in float32


class Guess(NamedTuple):
    """A token that may come next."""

    token: int
    probability: float


class Outcome(NamedTuple):
    """The token that did come next."""

    token: int
    probability: float
    rank: int  # 1 + the number of strictly likelier tokens


class Position(NamedTuple):
    """One place in a text, and what the model expected after it."""

    token: int
    expected: list[Guess]  # likeliest first; of equals, the smaller id
    came: Outcome | None  # None at the end of the text


def explain_next(model: GPTModel, ids: Ints, top: int = 5, padding: Ints | None = None) -> list[Position]:
    """The `top` likeliest tokens after each of ids (T,), without dropout; the model's mode is as before afterwards.

    Ids in `padding` (see padding_ids) are neither listed nor ranked, for they never come; probabilities are the
    model's own, over all V, so that they are those of which a text's loss is made.
    Raises InputError for ids that are no row of 1 .. context_length tokens and for top outside 1 .. V, padding not
    counted; RunError for logits that are not finite.
    """
    ids, padding = to_host(ids), checked_padding(padding, model.config.vocab_size)
    V = model.config.vocab_size - len(padding)
    if ids.ndim != 1:
        raise InputError(f"prompt: expected token ids of shape (T,), got shape {ids.shape}")
    top = whole_number("top", top, 1, V, f"1 .. {V} (the vocabulary)")
    came = [*ids[1:].tolist(), None]
    with inference_mode(model):
        rows = zip(ids.tolist(), _logits(model, ids), came, strict=True)
        return [_position(token, logits, following, top, padding) for token, logits, following in rows]


def _logits(model: GPTModel, ids: Ints) -> Iterator[HostArray]:
    """ids (T,)  ->  T rows (V,) in float64; never are all of a long text there at once"""
    x = model.hidden_states(ids[None])[0]  # (T, C)
    step = max(1, LOGITS // model.config.vocab_size)
    for i in range(0, len(ids), step):
        logits = to_host(model.out_head(x[i : i + step]).data).astype(np.float64)
        if not np.isfinite(logits).all():
            raise RunError("explain-next: the model's logits are not finite; its training has diverged")
        yield from logits


def _position(token: int, logits: HostArray, came: int | None, top: int, padding: Ints) -> Position:
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    logits[padding] = -np.inf
    likeliest = np.argsort(-logits, kind="stable")[:top]
    outcome = None
    if came is not None:
        rank = 1 + int((logits > logits[came]).sum())
        outcome = Outcome(came, float(probabilities[came]), rank)
    return Position(token, [Guess(int(i), float(probabilities[i])) for i in likeliest], outcome)
