"""Incremental decoding of several texts with a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import anomaly
from ..backend.contract import Array, Ints
from ..backend.select import device_of, in_float32, kernels_of, to_device
from ..gpt.kv_cache import KVCache
from ..gpt.model import GPTModel
from ..gpt.token_logits import has_uniform_parameters, is_standard, token_logits
from ..tokenizer.encoding import checked_padding
from ..watchers import is_watched
from .replay import ReplayedTokens


class IncrementalDecoder:
    """Computes next-token logits for several texts that grow between the calls.

    A text uses the cache as long as it fits the context.  Of a longer text the model sees the last context_size
    tokens, at positions from 0 as in the book: every step shifts all positions, so the cache is useless and the whole
    window is recomputed.  The same holds in training mode, where dropout draws new masks each time.
    The logits of `padding`, ids (n,) that stand for no token, are -inf, so no sampling rule selects one.
    Logits stay on the model's device.
    """

    def __init__(self, model: GPTModel, context_size: int, longest: int, padding: Ints | None = None) -> None:
        self.model, self.context_size = model, context_size
        ids = checked_padding(padding, model.config.vocab_size)
        self.padding = to_device(ids, model.device) if ids.size else None
        self.capacity = min(longest, context_size)
        self.cache: KVCache | None = None
        self.replayed: ReplayedTokens | None = None
        self.is_uniform: bool | None = None  # of the parameters, once it is asked for
        self.cached: list[int] = []  # the text in each row of the cache
        self.logits: Array | None = None  # (B, V); a finished text keeps its last logits

    def next_logits(self, texts: Sequence[Ints], active: Sequence[int]) -> Array:
        """Return the logits (B, V) after each text, updated for the active ones; the first call takes all texts."""
        fitting = [b for b in active if len(texts[b]) <= self.context_size and not self.model.training]
        sliding = sorted(set(active) - set(fitting))
        if fitting:
            self._update(texts, fitting, self._extend_cache(texts, fitting))
        if sliding:
            self._update(texts, sliding, self._forward([texts[b][-self.context_size :] for b in sliding]))
        assert self.logits is not None  # some text is active
        return self.logits

    def branch(self, parents: Sequence[int]) -> None:
        """Reorder the texts: text i continues text parents[i], an active one; a parent may be listed several times."""
        if self.cache is not None and list(parents) != self.cached:
            self.cache = self.cache.select([self.cached.index(b) for b in parents])
        self.cached, self.logits = list(range(len(parents))), None

    def _extend_cache(self, texts: Sequence[Ints], rows: list[int]) -> Array:
        if self.cache is None:
            self.cache = self.model.new_cache(len(rows), self.capacity)
        elif rows != self.cached:
            self.cache = self.cache.select(np.flatnonzero(np.isin(self.cached, rows)))
        self.cached = rows
        new = [texts[b][n:] for b, n in zip(rows, self.cache.lengths, strict=True)]
        one_each = all(len(row) == 1 for row in new)
        if one_each and self._takes_kernels_alone(self.cache):
            return in_float32(token_logits(self.model, np.concatenate(new), self.cache))
        # The first call, and a beam's after branch(), have a new cache, from which nothing is replayed.
        if self.logits is None or device_of(self.logits) == "cpu" or not one_each:
            return self._forward(new, self.cache)
        if self.replayed is None or self.replayed.cache is not self.cache:
            self.replayed = ReplayedTokens(self.model, self.cache)
        return self.replayed.next_logits(np.concatenate(new))

    def _takes_kernels_alone(self, cache: KVCache) -> bool:
        """Whether nobody would miss the model's modules and operations, whatever became of it since the last token."""
        if type(self.model) is not GPTModel or device_of(cache.memory) != "cpu":
            return False
        if is_watched() or anomaly.is_enabled() or not is_standard(self.model):
            return False
        if self.is_uniform is None:
            self.is_uniform = has_uniform_parameters(self.model)
        return self.is_uniform

    def _forward(self, rows: list[Ints], cache: KVCache | None = None) -> Array:
        counts = np.array([len(row) for row in rows])
        return in_float32(self.model.next_token_logits(pad_right(rows, fill=0), cache, counts).data)

    def _update(self, texts: Sequence[Ints], rows: list[int], logits: Array) -> None:
        if self.padding is not None:
            logits[:, self.padding] = -np.inf
        if len(rows) == len(texts):
            self.logits = logits
            return
        if self.logits is None:
            self.logits = kernels_of(logits).xp.zeros((len(texts), logits.shape[1]), logits.dtype)
        self.logits[rows] = logits


def pad_right(rows: Sequence[Ints], fill: int) -> Ints:
    """B rows (T,) of any lengths  ->  (B, T), padded on the right with `fill`"""
    ids = np.full((len(rows), max(map(len, rows))), fill, dtype=np.result_type(*rows))
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids
