"""Device memory for one launch: copies of the arguments' arrays between margins that show a write outside."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

HostArray = npt.NDArray[Any]

MARGIN = 1 << 14
ALIGNMENT = 512  # of CuPy's allocations
# In the margins, repeated: a nan, far from any index as an integer.  A signalling one, of double and of the narrower
# floats, since "+=" of it and a number has other bits; of a quiet nan it has the same.
CANARY_OF_DOUBLE, CANARY = np.uint16(0xFFF5), np.uint16(0xFFB5)
WALL = 1 << 20


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


@dataclass(frozen=True)
class Wall:
    """A region's neighbour that cannot be touched: an access that goes on into it is a fault, which has a line."""

    region: int
    after: bool  # else before
    gap: int = 0  # bytes between the two


class Regions:
    """Guarded copies of arrays; arrays that share bytes share a copy.

    An array begins in its copy at the same distance from a multiple of 512 as in the memory that owns it, so that an
    unaligned view stays one, and what malloc aligns to 16 only is aligned as CuPy's memory is.
    """

    def __init__(self, arrays: Sequence[HostArray], wall: Wall | None = None) -> None:
        filled = [array for array in arrays if array.size]
        self.extents: list[tuple[int, int]] = []  # of addresses, without overlaps
        for low, high in sorted(map(_bounds, filled)):
            if self.extents and low < self.extents[-1][1]:
                self.extents[-1] = (self.extents[-1][0], max(high, self.extents[-1][1]))
            else:
                self.extents.append((low, high))
        self.places = [self._place(array) if array.size else None for array in arrays]
        owners = {self._region(array): _owner(array).ctypes.data for array in filled}
        wide = {self._region(array) for array in filled if array.itemsize == 8}
        self.copies: list[_Guarded | _Walled] = [
            _Walled(*extent, wall)
            if wall and wall.region == i
            else _Guarded(*extent, owners[i], CANARY_OF_DOUBLE if i in wide else CANARY)
            for i, extent in enumerate(self.extents)
        ]

    def _region(self, array: HostArray) -> int:
        return next(i for i, (low, high) in enumerate(self.extents) if low <= array.ctypes.data < high)

    def _place(self, array: HostArray) -> Place:
        region = self._region(array)
        return Place(region, array.ctypes.data - self.extents[region][0])

    def address(self, place: Place | None) -> int:
        return 0 if place is None else self.copies[place.region].address + place.offset

    def copy_back(self) -> None:
        for copy, extent in zip(self.copies, self.extents, strict=True):
            _bytes_at(*extent)[...] = _bytes_at(copy.address, copy.address + copy.size)


class _Guarded:
    """A copy between two margins."""

    def __init__(self, low: int, high: int, owner: int, canary: np.uint16) -> None:
        self.size = high - low
        self._room = np.empty(self.size + 2 * (MARGIN + ALIGNMENT), np.uint8)
        self._room[: self._room.size // 2 * 2].view(np.uint16)[...] = canary
        self._untouched = self._room.copy()
        first = self._room.ctypes.data + MARGIN
        self.address = first + (low - owner - first) % ALIGNMENT
        self._begin = self.address - self._room.ctypes.data
        self._room[self._begin : self._begin + self.size] = _bytes_at(low, high)

    def content(self) -> bytes:
        return self._room[self._begin : self._begin + self.size].tobytes()

    def written_after(self) -> int | None:
        """The distance from the end of the first byte after it that was written."""
        same = self._room[self._begin + self.size :] == self._untouched[self._begin + self.size :]
        return None if same.all() else int(np.argmin(same))

    def written_before(self) -> int | None:
        """The distance from the beginning of the last byte before it that was written."""
        same = self._room[: self._begin] == self._untouched[: self._begin]
        return None if same.all() else int(np.argmin(same[::-1])) + 1


class _Walled:
    """A copy next to memory that cannot be touched."""

    def __init__(self, low: int, high: int, wall: Wall) -> None:
        self.size = high - low
        room = -(-(self.size + wall.gap) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._room = mmap.mmap(-1, room + 2 * WALL)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self._room))
        for first in (begin, begin + WALL + room):
            ctypes.CDLL(None).mprotect(ctypes.c_void_p(first), ctypes.c_size_t(WALL), ctypes.c_int(0))
        self.address = begin + WALL + (room - self.size - wall.gap if wall.after else wall.gap)
        _bytes_at(self.address, self.address + self.size)[...] = _bytes_at(low, high)

    def content(self) -> bytes:
        return _bytes_at(self.address, self.address + self.size).tobytes()

    def written_after(self) -> None:
        return None

    def written_before(self) -> None:
        return None


def _bounds(array: HostArray) -> tuple[int, int]:
    return np.lib.array_utils.byte_bounds(array)


def _bytes_at(low: int, high: int) -> HostArray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))


def _owner(array: HostArray) -> HostArray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
