"""log, sin and cos in float32, bit-identical to PyTorch's kernel for normal random numbers.

That kernel evaluates the polynomials of Moshier's Cephes library with AVX2's fused multiply-add, which rounds once.
NumPy has no FMA, so `fma` computes in float64 and rounds to float32: exact except for ties that the first rounding
creates, which it detects and corrects.

Speed depends on the number of passes over arrays: operands used often are widened to float64 once, signs and choices
are made on the bits (np.where takes ten times as long), and callers pass cache-sized arrays.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float32: TypeAlias = npt.NDArray[np.float32]
Number: TypeAlias = npt.NDArray[np.floating[Any]] | np.floating[Any]

f32 = np.float32
LOG = [f32(c) for c in (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)]  # fmt: skip
SIN = [f32(c) for c in (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)]
COS = [f32(c) for c in (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)]
MINUS_QUARTER_PI = [f32(c) for c in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)]  # as a sum
LOG_2 = f32(-2.12194440e-4), f32(0.693359375)  # as a sum

TIE = np.iinfo(np.int64).min  # 1000...: the bits below float32 of a number halfway between two float32s


def fma(a: Number, b: Number, c: Number) -> Float32:
    """a * b + c rounded once to float32, if not subnormal; operands have float32's precision, in either type."""
    product = wide(a) * wide(b)  # exact: 24 bits times 24 bits
    total = product + wide(c)
    if np.minimum.reduce(_bits_below_float32(total), axis=None, initial=0) == TIE:
        _settle_ties(product, c, total)
    return total.astype(f32)


def wide(x: Number) -> npt.NDArray[np.float64]:
    """The numbers in float64, without a copy if they are already."""
    return np.asarray(x, dtype=np.float64)


def _bits_below_float32(x: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The last 29 bits of each float64, shifted to the front."""
    return x.view(np.int64) << 35


def _settle_ties(product: npt.NDArray[Any], c: Number, total: npt.NDArray[Any]) -> None:
    """Move sums that only rounding made a tie towards their exact value, so that they round correctly."""
    partner = total - product
    lost = (product - (total - partner)) + (c - partner)  # exact: Knuth's two-sum
    false = (_bits_below_float32(total) == TIE) & (lost != 0)
    if false.any():
        total[false] = np.nextafter(total[false], np.copysign(np.inf, lost[false]))


def polynomial(x: Number, coefficients: list[np.float32]) -> Float32:
    """Evaluate a polynomial by Horner's rule, coefficients from the highest power down."""
    x, y = wide(x), np.asarray(coefficients[0])
    for c in coefficients[1:]:
        y = fma(y, x, c)
    return y


def log(x: Float32) -> Float32:
    """log(x) for normal x > 0."""
    bits = x.view(np.int32)
    exponent = ((bits >> 23) - 126).astype(f32)
    mantissa = ((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(f32)  # in [0.5, 1)
    small = (mantissa < f32(0.707106781186547524)).astype(f32)  # range reduction to [sqrt(0.5), sqrt(2)) - 1
    exponent -= small
    m = (mantissa - f32(1)) + small * mantissa
    square = m * m
    y = polynomial(m, LOG) * m
    y = fma(y, square, exponent * LOG_2[0])
    y -= square * f32(0.5)
    return fma(exponent, LOG_2[1], m + y)


def sin_cos(x: Float32) -> tuple[Float32, Float32]:
    """sin(x) and cos(x) for 0 <= x < 8192."""
    octant = ((x * f32(1.27323954473516)).astype(np.int32) + 1) & ~1  # x / (pi / 4), up to the next even one
    turns = octant.astype(np.float64)
    for part in MINUS_QUARTER_PI:
        x = fma(turns, part, x)
    square = x * x
    c = polynomial(square, COS) * square
    c = fma(c, square, square * f32(-0.5)) + f32(1)
    s = polynomial(square, SIN) * square
    s = fma(s, x, x)
    sine, cosine = s.view(np.int32), c.view(np.int32)
    swapped = (sine ^ cosine) & -((octant >> 1) & 1)  # all bits set in every other octant
    sine, cosine = sine ^ swapped, cosine ^ swapped
    sine ^= (octant & 4) << 29  # the sign
    cosine ^= ((octant + 2) & 4) << 29
    return sine.view(f32), cosine.view(f32)
