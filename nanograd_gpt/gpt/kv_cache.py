"""Key-value cache for generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..backend.contract import Array, Ints
from ..backend.select import kernels_of
from ..errors import InputError, counted
from ..tensor import Tensor


class LayerCache(NamedTuple):
    """One layer's keys and values, and the slots for the tokens being added."""

    keys: Array  # (B, H, S, D)
    values: Array  # (B, H, S, D)
    slots: Ints  # (B, T)
    stop: int  # one above the highest slot in use

    def attention(self, qkv: Tensor) -> Tensor:
        """qkv (B, T, 3C) of the new tokens  ->  context (B, T, C); stores their keys and values"""
        return Tensor(kernels_of(qkv.data).cached_attention(qkv.data, *self))


@dataclass
class KVCache:
    """Keys and values of the tokens so far: L layers, B rows, H heads, and S slots of D numbers.

    A token's slot is its position in the text, so rows of different lengths all start in slot 0.  `lengths` is the only
    record of the position during generation.  GPTModel.new_cache creates one.
    """

    # Keys have the layout of values.  The transposed layout (B, H, D, S) is not faster with NumPy: for one token of
    # GPT-2 124M, Q K^T took 12, 87 and 124 us per layer after 64, 512 and 1000 tokens, against 8, 78 and 146 here; and
    # a new key would be written to C separate addresses.
    memory: Array  # (2, L, B, H, S, D); starts as zeros, since a weight of 0 times an uninitialised nan would be nan
    lengths: Ints  # (B,) tokens in each row; on the host

    def next_slots(self, B: int, T: int) -> Ints:
        """Return the slots (B, T) of T more tokens, on the host.

        Raises InputError for another B and beyond the capacity.
        """
        if len(self.lengths) != B:
            raise InputError(f"cache: it has {len(self.lengths)} rows, and {B} were given")
        if self.lengths.max() + T > self.capacity:
            b = self.lengths.argmax()
            held = counted(int(self.lengths[b]), "token")
            raise InputError(f"cache: row {b} holds {held}; {T} more exceed the capacity, {self.capacity}")
        return self.lengths[:, None] + np.arange(T)

    def layers(self, slots: Ints, stop: int | None = None) -> Iterator[LayerCache]:
        """Yield each layer's part, for new tokens in these slots (B, T), all below `stop` [as low as it may be]."""
        stop = int(self.lengths.max()) + slots.shape[1] if stop is None else stop
        keys, values = self.memory
        return (LayerCache(k, v, slots, stop) for k, v in zip(keys, values, strict=True))

    @property
    def capacity(self) -> int:
        """The slots of a row."""
        return self.memory.shape[4]

    def select(self, rows: Sequence[int] | Ints) -> KVCache:
        """Copy the given rows, in this order, into a new cache; a row may be repeated."""
        rows = np.asarray(rows)
        lengths = self.lengths[rows]
        shape = list(self.memory.shape)
        shape[2] = len(rows)
        memory = kernels_of(self.memory).xp.zeros(shape, dtype=self.memory.dtype)
        used = slice(int(lengths.max()))
        memory[..., used, :] = self.memory[:, :, rows, :, used]
        return KVCache(memory, lengths)
