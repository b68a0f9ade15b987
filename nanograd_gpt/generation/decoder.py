"""Asks a model what comes next in several texts, and reads nothing twice where it need not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.select import to_host
from ..gpt.kv_cache import KVCache
from ..gpt.model import GPTModel
from ..tokenizer.encoding import checked_padding


class IncrementalDecoder:
    """The logits of the token after each of several texts, which grow between the calls.

    A text goes on in a cache as long as it fits the context.  Of a longer one the model sees the last context_size
    tokens, as the book has it, and they begin at position 0 again: each step moves every token, so that nothing can be
    kept and the whole window is read.  So it is in training mode, where dropout's masks are new each time.
    The logits of `padding`, ids (n,) that stand for no token, are -inf: no way of choosing takes one of them.
    """

    def __init__(self, model: GPTModel, context_size: int, longest: int, padding: Ints | None = None) -> None:
        self.model, self.context_size = model, context_size
        self.padding = checked_padding(padding, model.config.vocab_size)
        self.capacity = min(longest, context_size)
        self.cache: KVCache | None = None
        self.held: list[int] = []  # the text in each row of the cache
        self.logits: HostArray | None = None  # (B, V); a text that has ended keeps its last, and draws on in vain

    def next_logits(self, texts: Sequence[Ints], going: Sequence[int]) -> HostArray:
        """The logits (B, V) after each text, brought up to date for those still going: all of them at first."""
        fitting = [b for b in going if len(texts[b]) <= self.context_size and not self.model.training]
        sliding = sorted(set(going) - set(fitting))
        if fitting:
            self._update(texts, fitting, self._go_on(texts, fitting))
        if sliding:
            self._update(texts, sliding, self._read([texts[b][-self.context_size :] for b in sliding]))
        assert self.logits is not None  # some text is going
        return self.logits

    def branch(self, parents: Sequence[int]) -> None:
        """From now on text i is what text parents[i] was, each of which went on until now; it may become several."""
        if self.cache is not None and list(parents) != self.held:
            self.cache = self.cache.select([self.held.index(b) for b in parents])
        self.held, self.logits = list(range(len(parents))), None

    def _go_on(self, texts: Sequence[Ints], rows: list[int]) -> HostArray:
        if self.cache is None:
            self.cache = self.model.new_cache(len(rows), self.capacity)
        elif rows != self.held:
            self.cache = self.cache.select(np.flatnonzero(np.isin(self.held, rows)))
        self.held = rows
        new = [texts[b][n:] for b, n in zip(rows, self.cache.lengths, strict=True)]
        return self._read(new, self.cache)

    def _read(self, rows: list[Ints], cache: KVCache | None = None) -> HostArray:
        counts = np.array([len(row) for row in rows])
        return to_host(self.model.next_token_logits(pad_right(rows, fill=0), cache, counts).data)

    def _update(self, texts: Sequence[Ints], rows: list[int], logits: HostArray) -> None:
        if self.logits is None:
            self.logits = np.zeros((len(texts), logits.shape[1]), logits.dtype)
        self.logits[rows] = logits
        self.logits[:, self.padding] = -np.inf


def pad_right(rows: Sequence[Ints], fill: int) -> Ints:
    """Rows of any lengths (T,), filled up on the right  ->  (B, T)"""
    ids = np.full((len(rows), max(map(len, rows))), fill, dtype=np.result_type(*rows))
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids
