"""The place of a dropout mask in a random stream, from which any device draws the same mask."""

from __future__ import annotations

from typing import NamedTuple


class MaskRecipe(NamedTuple):
    """A mask in the stream of a rng.Generator.

    Element i (in C order) is kept if the i-th 16 bits of call `call`, from block `first` on, are at least `threshold`.
    """

    seed: int
    stream: int
    call: int
    first: int  # block of 256 bits: a rank's rows begin at 16 * first of the whole mask
    threshold: int  # 0 .. 2^16: the rate times 2^16
