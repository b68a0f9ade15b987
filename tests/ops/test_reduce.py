"""Sums, means, largest elements and log-sum-exp: against plain loops, at ties, and where exp would overflow."""

from __future__ import annotations

from math import exp, fsum, log
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from .oracles import check_float32, check_value_and_gradients, normal

X = normal(2, 3, 4)
AXES = [None, 0, -1, (0, 2), (-1, 0, 1)]


def columns(axis: Any) -> list[tuple[Any, list[float]]]:
    """Each place of the result, with the elements of X that end there."""
    reduced = range(3) if axis is None else {a % 3 for a in ((axis,) if isinstance(axis, int) else axis)}
    groups: dict[Any, list[float]] = {}
    for i in np.ndindex(X.shape):
        groups.setdefault(tuple(0 if a in reduced else n for a, n in enumerate(i)), []).append(X[i])
    return list(groups.items())


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize(
    ("method", "loop"),
    [
        ("sum", fsum),
        ("mean", lambda numbers: fsum(numbers) / len(numbers)),
        ("max", max),
        ("logsumexp", lambda numbers: log(fsum(map(exp, numbers)))),
    ],
    ids=["sum", "mean", "max", "logsumexp"],
)
def test_the_value_is_that_of_a_plain_loop(method: str, loop: Any, axis: Any) -> None:
    y = getattr(Tensor(X), method)(axis, keepdims=True)
    dropped = getattr(Tensor(X), method)(axis)
    for place, numbers in columns(axis):
        assert y.data[place] == pytest.approx(loop(numbers), rel=1e-14, abs=1e-15)
    np.testing.assert_array_equal(dropped.data.ravel(), y.data.ravel())
    assert y.ndim == 3
    assert dropped.ndim == 3 - (3 if axis is None else np.size(axis))


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_logsumexp_is_the_formula_on_primitive_operations(axis: Any) -> None:
    check_value_and_gradients(lambda x: x.logsumexp(axis), lambda x: x.exp().sum(axis).log(), X)


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_a_mean_is_a_sum_over_the_number_of_elements(axis: Any) -> None:
    check_value_and_gradients(lambda x: x.mean(axis), lambda x: x.sum(axis) * (x.sum(axis).size / x.size), X)


def test_in_float32_the_error_stays_below_1e_6() -> None:
    wide = 3 * normal(50, 2000)
    check_float32(lambda x: x.logsumexp(-1), 1e-6, wide)
    check_float32(lambda x: x.sum(-1), 1e-6, wide)
    check_float32(lambda x: x.mean(0), 1e-6, wide)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([1e4, 1e4], 1e4 + log(2)),
        ([-1e4, -1e4, -1e4], -1e4 + log(3)),
        ([1e4, 0.0], 1e4),
        ([5.0, -np.inf], 5.0),
    ],
    ids=["large", "far below 0", "far apart", "one at minus infinity"],
)
def test_logsumexp_is_exact_where_exp_would_overflow(x: list[float], expected: float) -> None:
    tensor = Tensor(x, requires_grad=True)
    y = tensor.logsumexp()
    assert y.item() == pytest.approx(expected, rel=1e-15)
    y.backward()
    assert tensor.grad is not None
    assert tensor.grad.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("axis", "shares"),
    [(None, [[0, 0.25, 0.25], [0, 0.25, 0.25]]), (0, [[0, 0.5, 0.5], [1, 0.5, 0.5]]), (1, [[0, 0.5, 0.5]] * 2)],
    ids=["all", "axis 0", "axis 1"],
)
def test_equal_largest_elements_share_the_gradient_equally(axis: Any, shares: list[list[float]]) -> None:
    x = Tensor([[0.0, 5.0, 5.0], [1.0, 5.0, 5.0]], requires_grad=True)
    y = x.max(axis)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, shares)


NOT_FINITE: dict[str, tuple[list[float], float]] = {
    "all at minus infinity": ([-np.inf, -np.inf], -np.inf),
    "one alone at minus infinity": ([-np.inf], -np.inf),
    "one infinite": ([np.inf, 1.0], np.inf),
    "both infinities": ([np.inf, -np.inf], np.inf),
    "a nan": ([np.nan, 1.0], np.nan),
    "a nan among infinities": ([np.nan, np.inf, -np.inf], np.nan),
    "nothing": ([], -np.inf),
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_logsumexp_of_what_is_not_finite_is_numpys_and_warns_of_nothing(name: str) -> None:
    x, expected = NOT_FINITE[name]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.logaddexp.reduce(np.array(x)), expected)
    np.testing.assert_array_equal(Tensor(np.array(x)).logsumexp().data, expected)
    np.testing.assert_array_equal(Tensor(np.array([x, x])).logsumexp(-1).data, [expected, expected])


def test_logsumexp_of_two_infinities_is_infinite() -> None:
    assert Tensor([np.inf, np.inf]).logsumexp().item() == np.inf


def test_softmax_over_an_axis_of_no_elements_is_empty() -> None:
    for function in (F.softmax, F.log_softmax):
        x = Tensor(np.empty((2, 0)), requires_grad=True)
        y = function(x)
        assert y.shape == (2, 0)
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == (2, 0)


METHODS = ["sum", "mean", "max", "logsumexp"]


@pytest.mark.parametrize("axis", [0, -1, (0,), (-1,), None, ()], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_number_may_be_reduced_along_its_axis_0(method: str, axis: Any) -> None:
    for keepdims in (False, True):
        x = Tensor(2.5, requires_grad=True)
        y = getattr(x, method)(axis, keepdims)
        assert y.shape == ()
        assert y.item() == 2.5
        y.backward()
        assert x.grad == 1


@pytest.mark.parametrize("method", METHODS)
def test_an_axis_may_be_one_of_numpys_integers(method: str) -> None:
    for axis in (np.int64(1), np.uint8(1), (np.int32(0), np.int64(-1)), [0, 2], np.array([0, 2])):
        x, same = Tensor(X, requires_grad=True), Tensor(X, requires_grad=True)
        y = getattr(x, method)(axis)
        plain = getattr(same, method)(tuple(map(int, axis)) if np.ndim(axis) else int(axis))
        np.testing.assert_array_equal(y.data, plain.data)
        y.sum().backward()
        plain.sum().backward()
        np.testing.assert_array_equal(x.grad, same.grad)


@pytest.mark.parametrize("method", METHODS)
def test_an_axis_that_is_not_there_or_given_twice_is_an_error(method: str) -> None:
    for axis, message in ((3, "axis 3 is out of bounds"), (-4, "axis -4 is out of bounds"), ((0, 0), "repeated axis")):
        with pytest.raises(ValueError, match=message):
            getattr(Tensor(X), method)(axis)
    with pytest.raises(TypeError):
        getattr(Tensor(X), method)(0.5)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_integers_are_reduced_as_numpy_reduces_them(dtype: Any) -> None:
    x = np.array([[3, 0, 1], [2, 1, 1]]).astype(dtype)
    for method in ("sum", "mean", "max"):
        y, expected = getattr(Tensor(x), method)(1), getattr(x, method)(1)
        np.testing.assert_array_equal(y.data, expected)
        assert y.dtype == expected.dtype
    np.testing.assert_allclose(Tensor(x).logsumexp(1).data, np.log(np.exp(x.astype(float)).sum(1)), rtol=1e-15)


def test_a_maximum_of_nothing_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="zero-size array to reduction operation maximum"):
        Tensor(np.empty((2, 0))).max(1)


def test_a_maximum_that_is_nan_has_a_gradient_of_nan() -> None:
    x = Tensor([[1.0, np.nan], [2.0, 3.0]], requires_grad=True)
    y = x.max(1)
    np.testing.assert_array_equal(y.data, [np.nan, 3.0])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [[np.nan, np.nan], [0.0, 1.0]])


def test_of_nothing_the_sum_is_0() -> None:
    x = Tensor(np.empty((2, 0)), requires_grad=True)
    y = x.sum(1)
    np.testing.assert_array_equal(y.data, [0, 0])
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (2, 0)
