"""The cache for generation: every layer's keys and values, and the number of tokens in each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..backend.contract import Array, Ints
from ..backend.select import device_of, kernels_of, to_device
from ..errors import InputError
from ..tensor import Tensor


class LayerCache(NamedTuple):
    """One layer's part of a cache, and where in it the tokens under way go."""

    keys: Array  # (B, H, S, D)
    values: Array  # (B, H, S, D)
    slots: Ints  # (B, T)
    stop: int  # above all slots in use

    def attention(self, qkv: Tensor) -> Tensor:
        """qkv (B, T, 3C) of the new tokens  ->  context (B, T, C); their keys and values are kept."""
        return Tensor(kernels_of(qkv.data).cached_attention(qkv.data, *self))


@dataclass
class KVCache:
    """The keys and values of the tokens so far: L layers, B rows, H heads, and S slots of D numbers.

    A token's slot is its position in the text, so rows of different lengths all begin in slot 0.  `lengths` is the one
    place that knows the position in generation.  GPTModel.new_cache makes one.
    """

    # Keys lie as values do.  The other way round, (B, H, D, S), is no faster with NumPy: for one token of GPT-2 124M,
    # Q K^T took 12, 87 and 124 us a layer after 64, 512 and 1000 tokens, and as it is 8, 78 and 146; and a new key
    # would be written to C distant places.
    memory: Array  # (2, L, B, H, S, D); zeros at first, for a weight of 0 times nan were nan
    lengths: Ints  # (B,) tokens that each row holds; on the host

    def next_slots(self, B: int, T: int) -> Ints:
        """The slots of T more tokens in each row (B, T).  Raises InputError for another B, or where they do not fit."""
        capacity = self.memory.shape[4]
        if len(self.lengths) != B:
            raise InputError(f"cache: it holds {len(self.lengths)} rows, and {B} were given")
        if self.lengths.max() + T > capacity:
            b = self.lengths.argmax()
            raise InputError(f"cache: row {b} holds {self.lengths[b]} tokens; {T} more do not fit into {capacity}")
        return to_device(self.lengths[:, None] + np.arange(T), device_of(self.memory))

    def layers(self, slots: Ints) -> Iterator[LayerCache]:
        """Each layer's part, for new tokens that go into these slots (B, T)."""
        stop = int(self.lengths.max()) + slots.shape[1]
        keys, values = self.memory
        return (LayerCache(k, v, slots, stop) for k, v in zip(keys, values, strict=True))

    def select(self, rows: Sequence[int] | Ints) -> KVCache:
        """A cache of its own with these rows, in this order; a row may be there twice."""
        rows = np.asarray(rows)
        lengths = self.lengths[rows]
        shape = list(self.memory.shape)
        shape[2] = len(rows)
        memory = kernels_of(self.memory).xp.zeros(shape, dtype=self.memory.dtype)
        used = slice(int(lengths.max()))
        memory[..., used, :] = self.memory[:, :, rows, :, used]
        return KVCache(memory, lengths)
