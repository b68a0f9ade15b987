"""log, sin and cos in float32, to the very bits of the kernel with which PyTorch fills normal random numbers.

That kernel evaluates the polynomials of Moshier's Cephes library with AVX2, where a product and the sum after it are
one instruction that rounds once (FMA).  NumPy has none, so `fma` computes in float64 and rounds to float32: exact but
for ties that the first rounding made, and those it looks for.
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

BELOW_FLOAT32 = np.int64((1 << 29) - 1)  # the bits of a float64 that a float32 has no room for
TIE = np.int64(1 << 28)


def fma(a: Number, b: Number, c: Number) -> Float32:
    """a * b + c, rounded once"""
    product: npt.NDArray[Any] = np.multiply(a, b, dtype=np.float64)  # exact: 24 bits times 24 bits
    total = product + c
    tie = (total.view(np.int64) & BELOW_FLOAT32) == TIE
    if tie.any():
        total[tie] = _nudged(product[tie], np.broadcast_to(c, total.shape)[tie], total[tie])
    return total.astype(f32)


def _nudged(product: npt.NDArray[Any], c: npt.NDArray[Any], total: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sum moved towards what its rounding has lost, so that a tie which is none is rounded the right way."""
    c = c.astype(np.float64)
    partner = total - product
    lost = (product - (total - partner)) + (c - partner)  # exact: Knuth's two-sum
    towards = np.where(lost == 0, total, np.copysign(np.inf, lost))
    moved: npt.NDArray[Any] = np.nextafter(total, towards)
    return moved


def polynomial(x: Float32, coefficients: list[np.float32]) -> Float32:
    """By Horner's rule, the highest power first"""
    y: Number = coefficients[0]
    for c in coefficients[1:]:
        y = fma(y, x, c)
    return np.asarray(y)


def log(x: Float32) -> Float32:
    """log(x) for normal x > 0"""
    bits = x.view(np.int32)
    exponent = ((bits >> 23) - 126).astype(f32)
    mantissa = ((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(f32)  # in [0.5, 1)
    small = mantissa < f32(0.707106781186547524)  # move it to [sqrt(0.5), sqrt(2)), less 1
    exponent -= small
    m = (mantissa - f32(1)) + np.where(small, mantissa, f32(0))
    square = m * m
    y = polynomial(m, LOG) * m
    y = fma(y, square, exponent * LOG_2[0])
    y = y - square * f32(0.5)
    return fma(exponent, LOG_2[1], m + y)


def sin_cos(x: Float32) -> tuple[Float32, Float32]:
    """sin(x), cos(x) for 0 <= x < 8192"""
    octant = ((x * f32(1.27323954473516)).astype(np.int32) + 1) & ~1  # x / (pi / 4), up to the next even one
    for part in MINUS_QUARTER_PI:
        x = fma(octant.astype(f32), part, x)
    square = x * x
    c = polynomial(square, COS) * square
    c = fma(c, square, square * f32(-0.5)) + f32(1)
    s = polynomial(square, SIN) * square
    s = fma(s, x, x)
    swapped = (octant & 2) != 0
    sine, cosine = np.where(swapped, c, s), np.where(swapped, s, c)
    return _negated(sine, (octant & 4) != 0), _negated(cosine, ((octant - 2) & 4) == 0)


def _negated(x: Float32, where: npt.NDArray[np.bool_]) -> Float32:
    return np.where(where, -x, x)
