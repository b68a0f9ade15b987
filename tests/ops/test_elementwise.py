"""Elementwise operations: float32 against float64, choices at kinks, and where values must not leak."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


def wide_range(largest: float) -> Array:
    """float32 numbers of both signs and every size up to the largest."""
    sizes = np.concatenate([np.linspace(0, largest, 200_001), np.geomspace(1e-30, largest, 100_000)])
    return np.concatenate([-sizes[::-1], sizes]).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "exact", "largest"),
    [("exp", np.exp, 87.0), ("tanh", np.tanh, 20.0)],
    ids=["exp", "tanh"],
)
def test_in_float32_the_result_is_within_4_ulp(method: str, exact: Callable[[Array], Array], largest: float) -> None:
    x = wide_range(largest)
    result, truth = getattr(Tensor(x), method)().data, exact(x.astype(np.float64))
    assert result.dtype == np.float32
    ulp = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(result - truth) / ulp) <= 4


@pytest.mark.parametrize("function", [F.maximum, F.minimum], ids=["maximum", "minimum"])
def test_the_chosen_operand_gets_the_gradient_and_equal_ones_half_each(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, y = leaf(1.0, 2.0, 3.0), leaf(2.0, 2.0, 2.0)
    z = function(x, y)
    z.backward(np.array([10.0, 20.0, 30.0]))
    smaller = function is F.minimum
    np.testing.assert_array_equal(z.data, [1, 2, 2] if smaller else [2, 2, 3])
    np.testing.assert_array_equal(x.grad, [10, 10, 0] if smaller else [0, 10, 30])
    np.testing.assert_array_equal(y.grad, [0, 10, 30] if smaller else [10, 10, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.int64, bool], ids=lambda d: d.__name__)
def test_the_smaller_and_the_larger_of_integers_are_numpys(dtype: type) -> None:
    least, most = (False, True) if dtype is bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x, y = np.array([least, 1, most, 1], dtype=dtype), np.array([0, most, least, 1], dtype=dtype)
    for ours, numpys in ((F.minimum, np.minimum), (F.maximum, np.maximum)):
        result = ours(Tensor(x), Tensor(y)).data
        np.testing.assert_array_equal(result, numpys(x, y))
        assert result.dtype == dtype


def test_minimum_takes_a_number_on_either_side() -> None:
    x = leaf(-1.0, 0.0, 2.0)
    for clipped in (F.minimum(x, 0), F.minimum(0, x)):
        np.testing.assert_array_equal(clipped.data, [-1, 0, 0])
        x.zero_grad()
        clipped.sum().backward()
        np.testing.assert_array_equal(x.grad, [1, 0.5, 0])  # type: ignore[arg-type]  # None would fail


def test_minimum_keeps_the_sign_of_zero_and_hides_no_nan() -> None:
    assert np.signbit(F.minimum(leaf(-0.0), leaf(-0.0)).data[0])
    assert np.isnan(F.minimum(leaf(np.nan), leaf(1.0)).data[0])
    assert np.isnan(F.minimum(1.0, leaf(np.nan)).data[0])


def test_maximum_takes_a_number_on_either_side() -> None:
    for clipped in (F.maximum(leaf(-1.0, 0.0, 2.0), 0), F.maximum(0, leaf(-1.0, 0.0, 2.0))):
        np.testing.assert_array_equal(clipped.data, [0, 0, 2])
    x = leaf(-1.0, 0.0, 2.0)
    F.maximum(x, 0).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0.5, 1])


def test_maximum_hides_no_nan() -> None:
    nan, one = leaf(np.nan), leaf(1.0)
    assert np.isnan(F.maximum(one, nan).item())
    assert np.isnan(F.maximum(nan, one).item())


def test_where_takes_from_either_side_and_broadcasts() -> None:
    condition = np.array([True, False, True])
    x, y = leaf(1.0, 2.0, 3.0), leaf(9.0)
    z = F.where(condition, x, y)
    z.backward(np.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(z.data, [1, 9, 3])
    np.testing.assert_array_equal(x.grad, [10, 0, 30])
    np.testing.assert_array_equal(y.grad, [20])
    np.testing.assert_array_equal(F.where(condition, 0.0, x).data, [0, 2, 0])


def test_where_keeps_an_infinite_gradient_from_the_side_not_taken() -> None:
    x, y = leaf(4.0, 0.0), leaf(1.0, 1.0)
    F.where(np.array([True, False]), x, y).backward(np.array([1.0, np.inf]))
    np.testing.assert_array_equal(x.grad, [1, 0])
    np.testing.assert_array_equal(y.grad, [0, np.inf])


@pytest.mark.parametrize(
    ("exponent", "slope"),
    [(0, [0, 0, 0]), (1, [1, 1, 1]), (2, [0, -4, 6]), (3.0, [0, 12, 27])],
    ids=["x ** 0", "x ** 1", "x ** 2", "x ** 3.0"],
)
def test_a_power_has_its_slope_at_0_and_below(exponent: float, slope: list[float]) -> None:
    x = leaf(0.0, -2.0, 3.0)
    y = x**exponent
    y.sum().backward()
    np.testing.assert_array_equal(y.data, np.array([0.0, -2.0, 3.0]) ** exponent)
    np.testing.assert_array_equal(x.grad, slope)


def test_a_power_of_0_does_not_change_with_its_exponent() -> None:
    base, exponent = leaf(0.0, 0.0, np.e), leaf(2.0, 0.0, 2.0)
    (base**exponent).sum().backward()
    np.testing.assert_allclose(exponent.grad, [0, 0, np.e**2], rtol=1e-15)
    np.testing.assert_allclose(base.grad, [0, 0, 2 * np.e], rtol=1e-15)
