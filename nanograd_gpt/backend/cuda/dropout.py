"""Dropout by masks that the kernels draw themselves, from a place in the random stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from math import prod
from typing import Any, NamedTuple, cast

import cupy
import numpy as np

from ...mask_recipe import MaskRecipe
from ..contract import Array, Bools, Keep, MaskSource
from ..plain import dropout as plain
from .cast import to_float
from .launch import Source, blocks_for, fits, fits_rounded, type_of

SOURCE = Source(
    "dropout.cu",
    "dropout<float, float>",
    "dropout<bf16, float>",
    "dropout<float, bf16>",
    "mask_bools",
    "mask_bits",
    "pack_bools",
)
THREADS, DRAWN_AT_ONCE, WORD, WARP = 256, 16, 32, 32
ROWS = 64  # of a block that makes packed bits, and its threads


class Place(NamedTuple):
    """A mask's place in its stream, as the kernels take it: its recipe, with `call` counted from `origin`."""

    seed: int
    stream: int
    call: int
    first: int
    threshold: int
    origin: Array | None  # () uint64 on the device; None: 0


class Origin(NamedTuple):
    """The first call of a recorded step, when it was recorded, and where its replays find the number of theirs."""

    seed: int
    stream: int
    call: int
    number: Array  # () uint64 on the device


_origin: Origin | None = None


@contextmanager
def masks_from(origin: Origin) -> Iterator[None]:
    """Let the masks of a step that is being recorded count their calls from a number on the device."""
    global _origin
    _origin = origin
    try:
        yield
    finally:
        _origin = None


def _place_of(recipe: MaskRecipe) -> Place:
    if _origin is None:
        return Place(*recipe, origin=None)
    if recipe[:2] != _origin[:2]:
        raise RuntimeError("a mask is drawn from another random stream than the first")
    return Place(*recipe._replace(call=recipe.call - _origin.call), origin=_origin.number)


class DeviceMask:
    """A mask that is not drawn yet: kernels do so from its place, or read one of its realisations."""

    dtype = np.dtype(np.bool_)

    def __init__(self, shape: tuple[int, ...], recipe: MaskRecipe) -> None:
        self.shape, self.place = shape, _place_of(recipe)

    @cached_property
    def bools(self) -> Bools:
        """The mask as the array that the CPU draws."""
        keep: Bools = cupy.empty(self.shape, dtype=self.dtype)
        SOURCE.launch(
            "mask_bools", blocks_for(keep.size, THREADS * DRAWN_AT_ONCE), (THREADS,), keep, keep.size, *self.place
        )
        return keep

    @cached_property
    def causal_bits(self) -> Array:
        """A mask (..., T, T) of queries and keys as packed bits: see causal_bits()."""
        words, T = _empty_words(self.shape), self.shape[-1]
        grid = prod(self.shape[:-2]), -(-T // ROWS)
        SOURCE.launch("mask_bits", grid, (ROWS,), words, T, words.shape[-1], *self.place)
        return words


def keep_mask(rng: MaskSource, shape: tuple[int, ...], rate: float) -> Keep:
    recipe = rng.mask_recipe(rate, prod(shape))
    return cupy.asarray(rng.keep_mask(shape, rate)) if recipe is None else cast(Keep, DeviceMask(shape, recipe))


def as_bools(keep: Keep) -> Bools:
    """The mask as an array, for the plain formulas."""
    return keep.bools if isinstance(keep, DeviceMask) else keep


def causal_bits(keep: Keep) -> Array:
    """keep (..., T, T)  ->  uint32 (..., T, W), W = ceil(T / 32): key k is bit k % 32 of word k / 32 of its query

    Bits of keys after the query may be anything.
    """
    if isinstance(keep, DeviceMask):
        return keep.causal_bits
    words = _empty_words(keep.shape)
    grid, T, W = blocks_for(words.size, THREADS // WARP), keep.shape[-1], words.shape[-1]
    SOURCE.launch("pack_bools", grid, (THREADS,), cupy.ascontiguousarray(keep), words, words.size, T, W)
    return words


def _empty_words(shape: tuple[int, ...]) -> Array:
    words: Array = cupy.empty((*shape[:-1], -(-shape[-1] // WORD)), dtype=np.uint32)
    return words


def dropout(x: Array, keep: Keep, rate: float, dtype: Any = None) -> Array:
    if isinstance(keep, DeviceMask) and fits_rounded(x):
        return _dropout(x, keep.place, rate, None, x.dtype if dtype is None else dtype)
    return plain.dropout(to_float(x), as_bools(keep), rate, dtype)


def dropout_add(x: Array, keep: Keep, rate: float, residual: Array) -> Array:
    if isinstance(keep, DeviceMask) and fits_rounded(x) and fits(residual):
        return _dropout(x, keep.place, rate, residual, residual.dtype)
    return plain.dropout_add(to_float(x), as_bools(keep), rate, to_float(residual))


def _dropout(x: Array, place: Place, rate: float, residual: Array | None, dtype: Any) -> Array:
    y: Array = cupy.empty(x.shape, dtype=dtype)
    kernel, grid = f"dropout<{type_of(x)}, {type_of(y)}>", blocks_for(x.size, THREADS * DRAWN_AT_ONCE)
    SOURCE.launch(kernel, grid, (THREADS,), x, residual, y, x.size, 1 / (1 - rate), *place)
    return y
