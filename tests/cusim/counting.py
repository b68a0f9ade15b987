"""The bytes that a launch moves between global memory and its threads, by array, and its multiplications.

    with counted_launches() as launches:
        function((blocks,), (256,), (x, y, np.int32(n)))
    assert launches[0].loaded == {0: 4 * n, 1: 0}

Bytes are those that threads ask for: what lanes of a warp ask for together, or a cache has, a GPU moves once.  Counted
multiplications are those that a kernel writes as fmaf or gives to the tensor cores.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

FLOPS_OF_FMAF, FLOPS_OF_TENSOR_PRODUCT = 2, 2 * 16 * 8 * 16


@dataclass(frozen=True)
class Counts:
    """Counts of one launch: bytes by the numbers of its array arguments, and multiplications."""

    kernel: str
    loaded: dict[int, int]
    stored: dict[int, int]
    fused: int  # calls of fmaf
    tensor: int  # products of a warp's tensor cores, 16 x 8 x 16

    @property
    def bytes(self) -> int:
        return sum(self.loaded.values()) + sum(self.stored.values())

    @property
    def flops(self) -> int:
        return FLOPS_OF_FMAF * self.fused + FLOPS_OF_TENSOR_PRODUCT * self.tensor


def begin(library: ctypes.PyDLL, arrays: Sequence[tuple[int, int]]) -> None:
    """Count from 0 in these arrays, each given as its first address and the one behind its last."""
    bounds = [address for array in arrays for address in array]
    library.cusim_count((ctypes.c_uint64 * len(bounds))(*bounds), ctypes.c_size_t(len(arrays)))


def end(library: ctypes.PyDLL, kernel: str, numbers: Sequence[int]) -> Counts:
    """The counts since then; numbers: of the arrays among the arguments."""
    values = (ctypes.c_uint64 * (2 * len(numbers) + 2))()
    library.cusim_counted(values)
    *moved, fused, tensor = values
    loaded, stored = (dict(zip(numbers, moved[first::2], strict=True)) for first in (0, 1))
    return Counts(kernel, loaded, stored, fused, tensor)
