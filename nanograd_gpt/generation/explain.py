"""A model's predictions at every position of a text: the most likely next tokens, and the rank of the actual one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arguments import whole_number
from ..backend.contract import HostArray, Ints
from ..backend.plain.activation import softmax
from ..backend.select import to_host
from ..errors import InputError, RunError
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..nn.token_ids import TokenIds, as_ids
from ..tokenizer.encoding import checked_padding

LOGITS_PER_CHUNK = 1 << 22  # 16 MiB in float32


class Candidate(NamedTuple):
    """A possible next token, and its probability under the model."""

    token: int
    probability: float


class ActualToken(NamedTuple):
    """The next token of the text, with its probability and rank under the model."""

    token: int
    probability: float
    rank: int  # 1 + the number of tokens with a higher probability


class Position(NamedTuple):
    """One position of a text, and the model's predictions for the token after it."""

    token: int
    candidates: list[Candidate]  # most likely first; ties by id
    actual: ActualToken | None  # None at the end of the text


def explain_next(model: GPTModel, ids: TokenIds, top: int = 5, padding: Ints | None = None) -> list[Position]:
    """List the most likely tokens after each token of a text, and the probability and rank of the actual one.

    ids (T,)  ->  a list of T Positions

    model               GPTModel; runs without dropout, and its mode is restored afterwards
    ids                 token ids (T,), T in 1 .. context_length: an array or a list
    top                 int in 1 .. V [5]: how many candidates to list; V without padding
    padding             ids (n,) that stand for no token, neither listed nor ranked [None]; see padding_ids

    Probabilities are a softmax over all V logits, padding included, so that they agree with the text's loss.
    Raises InputError for ids that are not such a row and for top out of range, RunError for logits that are not finite.

    >>> import numpy as np
    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> for position in explain_next(model, np.array([1, 2, 3]), top=2):
    ...     actual = position.actual and (position.actual.token, position.actual.rank)
    ...     print(position.token, [(c.token, round(c.probability, 3)) for c in position.candidates], actual)
    1 [(49, 0.039), (98, 0.032)] (2, 84)
    2 [(10, 0.026), (94, 0.023)] (3, 21)
    3 [(80, 0.036), (93, 0.035)] None
    """
    ids, padding = to_host(as_ids(ids)), checked_padding(padding, model.config.vocab_size)
    V = model.config.vocab_size - len(padding)
    if ids.ndim != 1:
        raise InputError(f"prompt: expected token ids of shape (T,), got shape {ids.shape}")
    top = whole_number("top", top, 1, V, f"1 .. {V} (the vocabulary)")
    next_ids = [*ids[1:].tolist(), None]
    with inference_mode(model):
        rows = zip(ids.tolist(), _logits(model, ids), next_ids, strict=True)
        return [_position(token, logits, following, top, padding) for token, logits, following in rows]


def _logits(model: GPTModel, ids: Ints) -> Iterator[HostArray]:
    """ids (T,)  ->  T rows (V,) in float64, computed in chunks: a long text never needs all its logits in memory"""
    x = model.hidden_states(ids[None])[0]  # (T, C)
    step = max(1, LOGITS_PER_CHUNK // model.config.vocab_size)
    for i in range(0, len(ids), step):
        logits = to_host(model.out_head(x[i : i + step]).data).astype(np.float64)
        if not np.isfinite(logits).all():
            raise RunError("explain-next: the model's logits are not finite; its training has diverged")
        yield from logits


def _position(token: int, logits: HostArray, next_id: int | None, top: int, padding: Ints) -> Position:
    probabilities = softmax(logits, axis=-1)
    logits[padding] = -np.inf
    most_likely = np.argsort(-logits, kind="stable")[:top]
    actual = None
    if next_id is not None:
        rank = 1 + int((logits > logits[next_id]).sum())
        actual = ActualToken(next_id, float(probabilities[next_id]), rank)
    return Position(token, [Candidate(int(i), float(probabilities[i])) for i in most_likely], actual)
