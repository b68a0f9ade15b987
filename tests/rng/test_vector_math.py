"""The arithmetic under PyTorch's normal numbers: fma rounds once, log and sin_cos are as good as they are."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.rng.vector_math import fma, log, polynomial, sin_cos

Float32 = npt.NDArray[np.float32]
Triple = tuple[Float32, Float32, Float32]

f32 = np.float32


def nearest(x: Fraction) -> np.float32:
    """The float32 next to x, the even one of two: by exact comparison with the neighbours of a guess."""
    guess = f32(float(x))
    around = [np.nextafter(guess, f32(-np.inf)), guess, np.nextafter(guess, f32(np.inf))]
    finite = [y for y in around if np.isfinite(y)]
    return min(finite, key=lambda y: (abs(Fraction(float(y)) - x), int(y.view(np.int32)) & 1))


def exact(a: Float32, b: Float32, c: Float32) -> Float32:
    triples = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    return np.array([nearest(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in triples], dtype=f32)


def rounded_twice(a: Float32, b: Float32, c: Float32) -> Float32:
    return (a.astype(np.float64) * b + c).astype(f32)


def odd(rng: np.random.Generator, n: int) -> npt.NDArray[np.int64]:
    """Odd numbers of 24 bits"""
    return rng.integers(2**22, 2**23, n) * 2 + 1


def scaled(rng: np.random.Generator, *numbers: npt.NDArray[Any]) -> Triple:
    """As float32, a and c (and so a * b + c) times a power of two, with signs: ties stay ties."""
    a, b, c = numbers
    sign = rng.choice([-1.0, 1.0], (2, len(a)))
    power = np.ldexp(sign[0], rng.integers(-30, 30, len(a)))
    triple = [x.astype(f32) for x in (a * power, b * sign[1], c * power * sign[1])]
    for rounded, x in zip(triple, (a, b, c), strict=True):
        np.testing.assert_array_equal(np.frexp(np.abs(rounded))[0], np.frexp(np.abs(x).astype(np.float64))[0])
    return triple[0], triple[1], triple[2]


def by_factors_next_to_a_power_of_two(rng: np.random.Generator, n: int) -> Triple:
    """A product of 2^k (1 +- 2^-j), and a c of whose last place it is the half: a hair off the tie."""
    pairs = [(812825, 1321, 30), (8163685, 538733, 42), (2**23 - 1, 2**23 + 1, 46), (2**12 - 1, 2**12 + 1, 24)]
    first, second, bits = np.array([pairs[i] for i in rng.integers(len(pairs), size=n)]).T
    assert np.all(np.abs(first * second - 2**bits) == 1)
    return scaled(rng, first * 0.5, second * np.ldexp(1.0, -bits), rng.integers(2**23, 2**24, n).astype(float))


def by_a_small_third(rng: np.random.Generator, n: int) -> Triple:
    """A product halfway between two float32s, and a c too small for float64 to see beside it."""
    a = 4 * rng.integers(2_800_000, 2**22, n) + 2  # times 3: 26 bits, the last of which are 10
    c = rng.choice([-1, 1], n) * odd(rng, n) * np.ldexp(1.0, -rng.integers(55, 80, n))
    return scaled(rng, a, np.full(n, 3), c)


CASES = {"factors next to a power of two": by_factors_next_to_a_power_of_two, "a small third": by_a_small_third}


def random_triples(n: int) -> Iterator[Triple]:
    rng = np.random.default_rng(1)
    for spread in (0, 1, 12, 30):  # of the powers of two
        a, b, c = (odd(rng, n) * np.ldexp(1.0, rng.integers(-spread, spread + 1, n) - 24) for _ in range(3))
        yield scaled(rng, a, b, c)
        short = rng.integers(1, 2**12, n).astype(float)  # of few bits: ties that are none of the first rounding's
        yield scaled(rng, short, rng.integers(1, 2**13, n).astype(float), c)
        product = (a.astype(f32) * b.astype(f32)).astype(float)
        yield scaled(rng, a, b, -np.nextafter(f32(product), rng.choice([0, f32(9e9)], n).astype(f32)))  # cancelled


def test_fma_of_random_numbers_is_the_float32_next_to_the_exact_value() -> None:
    for a, b, c in random_triples(400):
        np.testing.assert_array_equal(fma(a, b, c), exact(a, b, c))


@pytest.mark.parametrize("case", CASES)
def test_fma_is_right_where_a_sum_in_float64_falls_on_a_tie_and_rounds_the_wrong_way(case: str) -> None:
    a, b, c = CASES[case](np.random.default_rng(2), 2000)
    expected = exact(a, b, c)
    wrong = rounded_twice(a, b, c) != expected
    assert 0.2 < wrong.mean() < 0.8  # the other times the even one happens to be right
    np.testing.assert_array_equal(fma(a, b, c), expected)


def test_fma_leaves_true_ties_to_the_even_neighbour() -> None:
    for whole in (np.arange(2**23 + 1, 2**23 + 101), -np.arange(2**23 + 1, 2**23 + 101)):
        c = whole.astype(f32)
        tied = fma(np.full(100, f32(0.25)), np.full(100, f32(2)), c)
        assert (np.abs(tied - c) <= 1).all()
        assert not (tied.view(np.int32) & 1).any()


@pytest.mark.parametrize("case", CASES)
def test_fma_takes_numbers_widened_to_float64_and_single_ones_for_arrays(case: str) -> None:
    a, b, c = CASES[case](np.random.default_rng(3), 200)
    expected = exact(a, b, c)
    np.testing.assert_array_equal(fma(a.astype(np.float64), b.astype(np.float64), c), expected)
    for i in range(20):
        np.testing.assert_array_equal(fma(a[i : i + 1], b[i], c[i]), expected[i : i + 1])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1,), (2, 3)])
def test_fma_keeps_the_shape_and_is_float32(shape: tuple[int, ...]) -> None:
    y = fma(np.ones(shape, dtype=f32), f32(3), f32(-1))
    assert (y.dtype, y.shape) == (np.float32, shape)
    assert np.all(y == 2)


def test_a_polynomial_is_rounded_once_a_step() -> None:
    x = np.random.default_rng(4).uniform(-1, 1, 300).astype(f32)
    coefficients = [f32(0.1), f32(-0.7), f32(1.3), f32(0.2)]
    y = np.full(300, coefficients[0])
    for c in coefficients[1:]:
        y = exact(y, x, np.full(300, c))
    np.testing.assert_array_equal(polynomial(x, coefficients), y)


# log, sin and cos, against float64


def ulps(ours: Float32, exact: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The error in units of the exact value's last place in float32"""
    place = np.spacing(np.maximum(np.abs(exact), 1e-37).astype(f32)).astype(np.float64)
    return np.abs(ours - exact) / place


def in_blocks(x: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (x[i : i + 2**16] for i in range(0, len(x), 2**16))


EVERY_UNIT = np.arange(2**24, dtype=np.int32)  # times 2^-24: all the uniform numbers there are


def test_log_of_every_1_minus_a_uniform_number_is_within_1_unit_in_the_last_place() -> None:
    for block in in_blocks(EVERY_UNIT):
        x = f32(1) - block.astype(f32) * f32(2**-24)
        assert ulps(log(x), np.log(x.astype(np.float64))).max() < 1


def test_log_of_all_normal_numbers_is_within_1_unit_in_the_last_place() -> None:
    rng = np.random.default_rng(5)
    for x in in_blocks(rng.integers(0x00800000, 0x7F800000, 2**19, dtype=np.int32).view(f32)):
        assert ulps(log(x), np.log(x.astype(np.float64))).max() < 1
    edges = np.array([np.finfo(f32).tiny, 0.5, np.nextafter(f32(1), f32(0)), 1, np.finfo(f32).max], dtype=f32)
    assert ulps(log(edges), np.log(edges.astype(np.float64))).max() < 1
    assert log(f32([1]))[0] == 0


def test_sine_and_cosine_of_every_angle_are_within_2_units_in_the_last_place_but_next_to_one_zero() -> None:
    sines, cosines = 0, 0
    for block in in_blocks(EVERY_UNIT):
        x = f32(2 * np.pi) * (block.astype(f32) * f32(2**-24))
        sine, cosine = sin_cos(x)
        sines += int((ulps(sine, np.sin(x.astype(np.float64))) > 2).sum())
        cosines += int((ulps(cosine, np.cos(x.astype(np.float64))) > 2).sum())
        assert np.abs(sine - np.sin(x.astype(np.float64))).max() < 1.5 * 2**-24
        assert np.abs(cosine - np.cos(x.astype(np.float64))).max() < 1.5 * 2**-24
    assert (sines, cosines) == (0, 1)


def test_sine_and_cosine_hold_up_to_8192_to_a_unit_in_the_last_place_of_1() -> None:
    x = np.random.default_rng(6).uniform(0, 8192, 2**18).astype(f32)
    for ours, theirs in zip(sin_cos(x), (np.sin, np.cos), strict=True):
        assert np.abs(ours - theirs(x.astype(np.float64))).max() < 2**-23
    sine, cosine = sin_cos(f32([0]))
    assert (sine.tolist(), cosine.tolist()) == ([0], [1])
    assert not np.signbit(sine[0])
