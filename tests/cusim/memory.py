"""Device memory for one launch: copies of the arguments' arrays between margins that show a write outside."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

HostArray = npt.NDArray[Any]

MARGIN = 1 << 14
ALIGNMENT = 512  # of CuPy's allocations
CANARY = np.uint16(0xFFF5)  # repeated, it is nan as bf16, float and double, and far from any index as an integer


def poison(array: HostArray) -> HostArray:
    """Fill an array that is yet to be written with 0xFF: nan in every type of floats."""
    array.view(np.uint8)[...] = 0xFF
    return array


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> HostArray:
    """An array that is yet to be written: reading it gives nan, or -1."""
    return poison(np.empty(shape, dtype))


@dataclass(frozen=True)
class Place:
    """An address within a region."""

    region: int
    offset: int


class Regions:
    """Guarded copies of arrays; arrays that share bytes share a copy.

    An array begins in its copy at the same distance from a multiple of 512 as in the memory that owns it, so that an
    unaligned view stays one, and what malloc aligns to 16 only is aligned as CuPy's memory is.
    """

    def __init__(self, arrays: Sequence[HostArray]) -> None:
        bounds = [np.lib.array_utils.byte_bounds(array) if array.size else (0, 0) for array in arrays]
        self.extents: list[tuple[int, int]] = []  # of addresses, without overlaps
        for low, high in sorted({bound for bound in bounds if bound[1]}):
            if self.extents and low < self.extents[-1][1]:
                self.extents[-1] = (self.extents[-1][0], max(high, self.extents[-1][1]))
            else:
                self.extents.append((low, high))
        self.places: list[Place | None] = []  # of each array; None: of an array without elements
        owners: dict[int, int] = {}
        for array, (low, high) in zip(arrays, bounds, strict=True):
            if not high:
                self.places.append(None)
                continue
            region = next(i for i, (a, b) in enumerate(self.extents) if a <= low < b)
            self.places.append(Place(region, array.ctypes.data - self.extents[region][0]))
            owners[region] = _owner(array).ctypes.data
        self.copies = [_Guarded(low, high, owners[i]) for i, (low, high) in enumerate(self.extents)]

    def address(self, place: Place) -> int:
        return self.copies[place.region].address + place.offset

    def written_outside(self) -> list[tuple[int, str]]:
        """The regions around which something was written, and where: '8 bytes after its end'."""
        return [(i, where) for i, copy in enumerate(self.copies) if (where := copy.written_outside())]

    def copy_back(self) -> None:
        for copy in self.copies:
            copy.copy_back()


class _Guarded:
    def __init__(self, low: int, high: int, owner: int) -> None:
        size = high - low
        self.host = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(low))
        self.size = size
        room = np.empty(size + 2 * MARGIN + 2 * ALIGNMENT, np.uint8)
        first = room.ctypes.data + MARGIN
        first += (low - owner - first) % ALIGNMENT
        self.begin = first - room.ctypes.data
        self.room = room
        self.address = first
        words = room[: room.size // 2 * 2].view(np.uint16)
        words[...] = CANARY
        self.before = room.copy()
        room[self.begin : self.begin + size] = self.host

    def written_outside(self) -> str | None:
        end = self.begin + self.size
        same = self.room == self.before
        if not same[end:].all():
            return f"{int(np.argmin(same[end:]))} bytes after its end"
        if not same[: self.begin].all():
            return f"{int(np.argmin(same[: self.begin][::-1])) + 1} bytes before its beginning"
        return None

    def copy_back(self) -> None:
        self.host[...] = self.room[self.begin : self.begin + self.size]


def _owner(array: HostArray) -> HostArray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
