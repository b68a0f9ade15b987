"""The operands of products, in the precision in force, and the dtype of a layer's results."""

from __future__ import annotations

from typing import Any

import cupy

from ..contract import Array
from ..precision import precision
from .cast import to_bf16, to_float
from .gemm import Kind
from .launch import BF16

MIN_BF16_ROWS = 64  # with fewer rows, casting the weights would take longer than what it saves: TF32 is used


def product_kind(n_rows: int) -> Kind:
    """The kind of product for x (n_rows, ...)."""
    chosen = precision()
    if chosen == "bf16" and n_rows >= MIN_BF16_ROWS:
        return "bf16"
    return "float32" if chosen == "fp32" else "tf32"


def operand(kind: Kind, x: Array) -> Array:
    """x (...) float32 or bf16, contiguous, in the type that a kind of product takes."""
    return to_bf16(x) if kind == "bf16" else to_float(x)


def empty_like_operand(kind: Kind, x: Array) -> Array:
    """Memory for the gradient of x, in x's dtype if a product of this kind can write it."""
    return cupy.empty(x.shape, dtype=x.dtype if kind == "bf16" else "f")


def result_dtype(kind: Kind) -> Any:
    """The dtype of the results of a layer with this kind of product."""
    return BF16 if kind == "bf16" else "f"
