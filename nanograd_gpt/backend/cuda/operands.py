"""The operands of products, in the precision in force."""

from __future__ import annotations

from ..contract import Array
from ..precision import precision
from .cast import to_bf16
from .gemm import Kind

MIN_BF16_ROWS = 64  # with fewer rows, casting the weights would take longer than what it saves: TF32 is used


def operands(n_rows: int, *arrays: Array) -> tuple[Kind, list[Array]]:
    """The kind of product for x (n_rows, ...), and float32 arrays, contiguous, in the type that it takes."""
    chosen = precision()
    if chosen == "bf16" and n_rows >= MIN_BF16_ROWS:
        return "bf16", [to_bf16(array) for array in arrays]
    return ("float32" if chosen == "fp32" else "tf32"), list(arrays)
