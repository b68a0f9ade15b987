"""Differences between two backends' outputs, and how large they may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .contract import HostArray
from .precision import Precision, precision

FLOAT64_LIMIT = 1e-12
FLOAT32_LIMIT = 1e-5  # a sum of 50,000 products, one after the other, as a GPU's head has, is off by 5e-6
ROUNDED_LIMITS: dict[Precision, float] = {"tf32": 1e-3, "bf16": 1e-2}  # three times what rounding the inputs leads to
ROUNDED: dict[Precision, tuple[str, ...]] = {  # in the names of kernels that a precision applies to
    "fp32": (),
    "tf32": ("linear", "attention"),
    "bf16": ("linear", "attention", "layer_norm", "dropout"),
}


class Difference(NamedTuple):
    """A difference of one output: relative, by norms over the whole of it, |a - b| / |a|.

    Of an output that has no rounding, such as a mask, it is the share of elements that differ, and the limit is 0.
    """

    output: str
    shape: tuple[int, ...]
    dtype: str
    error: float
    limit: float

    @property
    def is_allowed(self) -> bool:
        """Whether it is within the limit."""
        return self.error <= self.limit

    @property
    def in_limits(self) -> float:
        """The error in units of the limit."""
        return self.error / self.limit if self.limit else np.inf if self.error else 0.0


def difference(
    kernel: str, output: str, ours: Sequence[HostArray], theirs: Sequence[HostArray], on_gpu: bool
) -> Difference:
    """The difference between an output's arrays, several of which count as one.

    on_gpu: whether the precision in force is that of one of the two.
    """
    shape, dtype = (ours or theirs)[0].shape, (ours or theirs)[0].dtype
    return Difference(output, shape, str(dtype), _error(ours, theirs), _limit(kernel, dtype, on_gpu))


def _error(ours: Sequence[HostArray], theirs: Sequence[HostArray]) -> float:
    pairs = list(zip(ours, theirs, strict=False))
    if len(ours) != len(theirs) or any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return np.inf
    if ours[0].dtype.kind not in "fc":
        return float(np.mean(np.concatenate([(a != b).reshape(-1) for a, b in pairs])))
    with np.errstate(invalid="ignore", over="ignore"):
        squares = [(_sum_of_squares(np.where(a == b, 0, a - b)), _sum_of_squares(a)) for a, b in pairs]
    error, size = (float(np.sqrt(sum(column))) for column in zip(*squares, strict=True))
    if not np.isfinite(error):
        return np.inf
    return error / size if size else error


def _sum_of_squares(x: HostArray) -> Any:
    return np.square(np.abs(x), dtype=np.float64).sum()


def _limit(kernel: str, dtype: np.dtype[Any], on_gpu: bool) -> float:
    if dtype.kind not in "fc":
        return 0.0
    if dtype != np.float32:
        return FLOAT64_LIMIT
    is_rounded = on_gpu and any(part in kernel for part in ROUNDED[precision()])
    return ROUNDED_LIMITS[precision()] if is_rounded else FLOAT32_LIMIT
