"""Tokens on a GPU replayed from a CUDA graph: a token's kernels take less time than Python takes to queue them."""

from __future__ import annotations

from typing import Any
from warnings import warn

import numpy as np

from .. import anomaly
from ..backend.contract import Array, Ints
from ..backend.precision import precision
from ..backend.select import in_float32, to_device
from ..gpt.kv_cache import KVCache
from ..gpt.model import GPTModel
from ..watchers import is_watched

RUN_BEFORE = 2  # tokens of a cache before one is recorded: many a cache is not used for more
MOST_WIDTH = 128  # of a head that the attention kernels take
ALIGNMENT = 2  # numbers of 8 bytes: a kernel's arrays begin at multiples of 16


class ReplayedTokens:
    """Next-token logits from a new token in each row of a cache, replayed with the bits that they have without replay.

    The third token is recorded.  The recording is replayed for that token and compared with it, bit by bit; if they
    differ, or if CUDA cannot record it, a warning says so and none is replayed.  Nor is one that somebody watches, or
    of a model that takes the plain formulas: CuPy's products cannot be recorded.
    """

    def __init__(self, model: GPTModel, cache: KVCache) -> None:
        self.model, self.cache = model, cache
        width = model.config.emb_dim // model.config.n_heads
        self.seen, self.possible = 0, cache.memory.dtype == np.float32 and width <= MOST_WIDTH
        self.recorded: RecordedToken | None = None

    def next_logits(self, tokens: Ints) -> Array:
        """tokens (B,) on the host, added to the cache  ->  logits (B, V)"""
        if self.possible and not (is_watched() or anomaly.is_enabled()):
            if self.recorded is not None and self.recorded.precision == precision():
                return self.recorded(tokens)
            self.seen += 1
            if self.seen > RUN_BEFORE:
                return self._record(tokens)
        return in_float32(self.model.next_token_logits(tokens[:, None], self.cache).data)

    def _record(self, tokens: Ints) -> Array:
        self.recorded = None  # of another precision, if there is one
        token = RecordedToken(self.model, self.cache)
        token.write(tokens)
        logits = token.run()
        try:
            token.record()
            if bool((_bits(token.replay()) == _bits(logits)).all()):
                self.recorded = token
            else:
                why = "a replay had other bits than the token that was recorded"
        except (RuntimeError, MemoryError) as error:
            why = " ".join(str(error).split())
        if self.recorded is None:
            self.possible = False
            warn(f"graph: tokens are not replayed, which is slower: {why}", RuntimeWarning, stacklevel=2)
        self.cache.lengths += 1
        return logits


def _bits(numbers: Array) -> Ints:
    return numbers.view(f"u{numbers.itemsize}")


class RecordedToken:
    """A forward pass of one token a row, recorded as a CUDA graph; ids and slots are written to the GPU before it."""

    def __init__(self, model: GPTModel, cache: KVCache) -> None:
        self.model, self.cache, self.precision = model, cache, precision()
        B = len(cache.lengths)
        self.numbers: Any = to_device(np.zeros((2, -(-B // ALIGNMENT) * ALIGNMENT), dtype=np.int64), "cuda")
        self.ids, self.slots = self.numbers[0, :B, None], self.numbers[1, :B, None]

    def write(self, tokens: Ints) -> None:
        """Copy tokens (B,) and their slots to the GPU."""
        B, numbers = len(tokens), np.zeros(self.numbers.shape, dtype=np.int64)
        numbers[0, :B], numbers[1, :B] = tokens, self.cache.next_slots(B, 1)[:, 0]
        self.numbers.set(numbers)

    def run(self) -> Array:
        """Compute the logits (B, V) of what was written."""
        return in_float32(self.model.logits_in_slots(self.ids, self.slots, self.cache).data)

    def record(self) -> None:
        """Record run(), which must have run before.  Raises RuntimeError and MemoryError where CUDA cannot."""
        from ..backend.cuda.graph import StepGraph  # imports CuPy

        self.graph = StepGraph(lambda: [self.run()], first_mask=None)

    def replay(self) -> Array:
        """As run()."""
        (logits,) = self.graph.replay()
        return logits

    def __call__(self, tokens: Ints) -> Array:
        """Add tokens (B,) to the cache, and compute the logits (B, V) after them."""
        self.write(tokens)
        self.cache.lengths += 1
        return self.replay()
