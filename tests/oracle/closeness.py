"""The distance of a tensor from its reference: relative to the reference's length, never element by element.

However small an element is, it carries the rounding of its larger neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def relative_error(ours: npt.ArrayLike, reference: npt.ArrayLike, scale: float | None = None) -> float:
    """|ours - reference| / |reference|, or / scale; infinite where the shapes differ or something is not a number."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.inf
    difference, scale = _length(a - b), _length(b) if scale is None else scale
    return 0.0 if difference == 0 else difference / scale if scale else np.inf


def assert_close(ours: npt.ArrayLike, reference: npt.ArrayLike, tolerance: float, what: str = "values") -> None:
    error = relative_error(ours, reference)
    assert error <= tolerance, f"{what}: relative error {error:.1e} is above {tolerance:.0e}"


def assert_all_close(ours: Mapping[str, Any], reference: Mapping[str, Any], tolerance: float) -> None:
    """The same for tensors by name, in one order.

    The gradient of a key's bias vanishes, for softmax does not see what all scores have in common: what is left of it
    is rounding, which is measured against the largest of all.
    """
    assert list(ours) == list(reference)
    largest = max(_length(np.asarray(b, dtype=np.float64)) for b in reference.values())
    for name, b in reference.items():
        error = relative_error(ours[name], b, scale=largest if name.endswith("W_key.bias") else None)
        assert error <= tolerance, f"{name}: relative error {error:.1e} is above {tolerance:.0e}"


def _length(a: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(a.ravel()))
