"""bfloat16, the upper half of a float32: the dtype of layers' results on a GPU in precision "bf16".

It is that of the package ml_dtypes, which the extras for CUDA bring.  On the CPU, no array is of it.
"""

from __future__ import annotations

from typing import Any


def is_bfloat16(dtype: Any) -> bool:
    """Whether this is ml_dtypes' bfloat16, which is asked without importing it."""
    return bool(dtype.char == "E" and dtype.itemsize == 2)  # its types of few bits have the same letter
