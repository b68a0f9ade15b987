"""Matrices, or vectors, that are contiguous in memory as one, so that their products are one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract import Array, GradOut


def as_contiguous_view(arrays: Sequence[Array]) -> Array | None:
    """One (K * O, I) view of K matrices (O, I), or vectors (O,), contiguous in memory; None if they are not.

    Attention lays its weights out so, which makes Q, K and V one product.
    """
    first, whole = arrays[0], arrays[0].base
    if whole is None or whole.ndim != 1 or any(a.base is not whole or not a.flags.c_contiguous for a in arrays):
        return None
    start = _address(first)
    for k, a in enumerate(arrays):
        if a.shape != first.shape or _address(a) != start + k * first.nbytes:
            return None
    begin = (start - _address(whole)) // first.itemsize
    return whole[begin : begin + len(arrays) * first.size].reshape(-1, *first.shape[1:])


def _address(array: Any) -> int:
    return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr


def joined_grad_out(grad_outs: Sequence[GradOut | None]) -> GradOut | None:
    """One GradOut over GradOuts that are contiguous in memory and all accumulate or all do not; else None."""
    present = [out for out in grad_outs if out is not None]
    if len(present) < len(grad_outs) or len({out.accumulate for out in present}) > 1:
        return None
    joined = as_contiguous_view([out.array for out in present])
    return None if joined is None else GradOut(joined, present[0].accumulate)
