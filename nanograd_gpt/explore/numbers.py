"""Every number of the page, computed by the library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.plain.activation import softmax
from ..errors import RunError
from ..gpt.model import GPTModel
from ..tape.logit_lens import logit_lens
from ..tape.token_attribution import token_attribution
from .gradient import LossGradient, loss_gradient
from .steps import Steps, forward_steps

LENS_TOP = 8  # likeliest tokens after each block


@dataclass
class Chance:
    """The probability and the rank of the token that came next, (..., T - 1), under logits (..., T, V)."""

    probability: HostArray
    rank: HostArray  # 1 + the number of tokens with a larger logit


@dataclass
class Lens:
    """The logit lens: what the model would predict if it ended after each block."""

    tokens: HostArray  # (L, T, K), the likeliest first
    probabilities: HostArray  # (L, T, K), of a softmax over all V logits
    next: Chance  # (L, T - 1)


@dataclass
class Numbers:
    """The numbers that a model computes for T tokens."""

    ids: Ints  # (T,)
    padding: Ints  # (n,), ids that stand for no token
    steps: Steps
    logits: HostArray  # (T, V), after the last block
    lens: Lens
    attribution: HostArray  # (T, T): row t, of the token after t, to the tokens 0 .. t; nan in a row not computed
    likeliest: int  # the token after the last one that its attribution is about
    gradient: LossGradient | None  # None for one token, which has nothing to predict

    @property
    def next(self) -> Chance:
        """The chances (T - 1,) of the tokens that came next, under the model's own logits."""
        return Chance(self.lens.next.probability[-1], self.lens.next.rank[-1])


def numbers_of(model: GPTModel, ids: Ints, padding: Ints) -> Numbers:
    """ids (T,), padding ids (n,)  ->  the Numbers; the model runs without dropout

    Raises InputError for ids that are too long or out of range, RunError for logits that are not finite.
    """
    with np.errstate(all="ignore"):  # weights that are not finite are reported in one line
        logits = logit_lens(model, ids[None])[:, 0]  # (L, T, V)
    if not np.isfinite(logits).all():
        raise RunError("explore: the model's logits are not finite; its training has diverged")
    of_tokens = logits[-1, -1].copy()
    of_tokens[padding] = -np.inf
    likeliest = int(of_tokens.argmax())
    return Numbers(
        ids=ids,
        padding=padding,
        steps=forward_steps(model, ids),
        logits=logits[-1],
        lens=_lens(logits, ids, padding),
        attribution=_attribution(model, ids, likeliest),
        likeliest=likeliest,
        gradient=loss_gradient(model, ids) if len(ids) > 1 else None,
    )


def _lens(logits: HostArray, ids: Ints, padding: Ints) -> Lens:
    """logits (L, T, V)  ->  the Lens, block by block, as all of them in float64 may not fit in memory"""
    top = min(LENS_TOP, logits.shape[-1] - len(padding))
    tokens, probabilities, chances = [], [], []
    for of_block in logits:
        p = softmax(of_block.astype(np.float64), axis=-1)
        listed = p.copy()
        listed[:, padding] = -1
        best = np.stack([_largest(row, top) for row in listed])
        tokens.append(best)
        probabilities.append(np.take_along_axis(p, best, axis=-1))
        chances.append(_chance(of_block, p, ids, padding))
    chance = Chance(np.stack([c.probability for c in chances]), np.stack([c.rank for c in chances]))
    return Lens(np.stack(tokens), np.stack(probabilities), chance)


def _largest(values: HostArray, n: int) -> Ints:
    """values (V,)  ->  the places of the n largest (n,), the largest first and equal ones in their order"""
    places = np.flatnonzero(values >= np.partition(values, -n)[-n])
    return places[np.argsort(-values[places], kind="stable")[:n]]


def _chance(logits: HostArray, probabilities: HostArray, ids: Ints, padding: Ints) -> Chance:
    """logits (T, V)  ->  the chance (T - 1,) of each token but the first"""
    following = ids[1:, None]
    own = np.take_along_axis(logits[:-1], following, axis=-1)
    above = logits[:-1] > own
    above[:, padding] = False
    return Chance(np.take_along_axis(probabilities[:-1], following, axis=-1)[:, 0], 1 + above.sum(axis=-1))


def _attribution(model: GPTModel, ids: Ints, likeliest: int) -> HostArray:
    """ids (T,)  ->  (T, T); the last row, of the likeliest next token, is nan if the context has no place for it"""
    T, attribution = len(ids), np.zeros((len(ids), len(ids)))
    for t in range(1, T):
        attribution[t - 1, :t] = token_attribution(model, ids[None, : t + 1], t)[0, :t]
    if model.config.context_length < T + 1:
        attribution[-1] = np.nan
    else:
        attribution[-1] = token_attribution(model, np.append(ids, likeliest)[None], T)[0, :T]
    return attribution
