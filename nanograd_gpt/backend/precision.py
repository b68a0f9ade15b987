"""The precision of layers on a GPU, for the whole process.

    fp32    float32 throughout
    tf32    float32, with products whose inputs are rounded to 10 bits of mantissa (TF32)
    bf16    layers' inputs and results, and the gradients of these, in bfloat16; sums within a layer in float32

In each, parameters, their gradients, the optimizer, the residual stream, norms' statistics and the loss are float32, so
a checkpoint of one is read by all.  Loss scaling is not needed: bfloat16 has float32's range.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from ..errors import InputError, did_you_mean

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_precision: Precision = "fp32"


def set_precision(name: str) -> None:
    """Set the precision: "fp32" (the default), "tf32" or "bf16".  Raises InputError for others."""
    global _precision
    if name not in PRECISIONS:
        raise InputError(f"precision: {name!r} is unknown{did_you_mean(name, list(PRECISIONS))}")
    _precision = name


def precision() -> Precision:
    """The precision in force."""
    return _precision
