"""Tensor's operators and methods against NumPy's, on either side, broadcast, and in each dtype."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tensor_leaves import X, leaf

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
RELATIONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]

Binary = Callable[[Any, Any], Any]


# Operators


@pytest.mark.parametrize("function", OPERATORS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "other",
    [2, 1.5, np.float64(1.5), np.float32(1.5), np.array(1.5), np.array([1.0, 2.0, 3.0]), X[:, :1], Tensor(X + 1)],
    ids=["int", "float", "float64 number", "float32 number", "no axes", "row", "column", "Tensor"],
)
def test_an_operator_gives_numpys_numbers_with_the_tensor_on_either_side(function: Binary, other: Any) -> None:
    raw = other.data if isinstance(other, Tensor) else other
    for result, expected in (
        (function(leaf(), other), function(X, raw)),
        (function(other, leaf()), function(raw, X)),
    ):
        assert isinstance(result, Tensor)
        assert result.requires_grad
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.data, expected)


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda x: 3 - x, -1),
        (lambda x: x - 3, 1),
        (lambda x: 3 / x, -3 / X**2),
        (lambda x: x / 4, 1 / 4),
        (lambda x: 2**x, 2**X * np.log(2)),
        (lambda x: x**3, 3 * X**2),
        (lambda x: 3 * x + 1, 3),
        (lambda x: -x, -1),
        (lambda x: np.full(3, 2.0) * x, 2),
        (lambda x: np.float64(2.0) * x, 2),
    ],
    ids=["3 - x", "x - 3", "3 / x", "x / 4", "2 ** x", "x ** 3", "3 x + 1", "-x", "array * x", "float64 * x"],
)
def test_a_number_may_stand_on_either_side(function: Callable[[Tensor], Tensor], slope: Any) -> None:
    x = leaf()
    function(x).sum().backward()
    np.testing.assert_allclose(x.grad, np.broadcast_to(slope, X.shape), rtol=1e-15)


@pytest.mark.parametrize("left", [False, True], ids=["array on the right", "array on the left"])
def test_matmul_takes_an_array_on_either_side(left: bool) -> None:
    x, a = leaf(), np.arange(6.0).reshape(3, 2)
    y = a @ x if left else x @ a
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, a @ X if left else X @ a)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, a.T @ np.ones((3, 3)) if left else np.ones((2, 2)) @ a.T)


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda f: f.__name__)
def test_comparisons_give_numpys_bools(relation: Binary) -> None:
    x, y = leaf(), leaf(X[:, :1])
    for result, expected in (
        (relation(x, y), relation(X, X[:, :1])),
        (relation(x, 1), relation(X, 1)),
        (relation(1.0, x), relation(1.0, X)),
        (relation(X[0], x), relation(X[0], X)),
    ):
        assert type(result) is np.ndarray
        assert result.dtype == bool
        np.testing.assert_array_equal(result, expected)


def test_zeros_can_be_replaced_where_they_equal_0() -> None:
    x = Tensor([[1.0, 0.0], [0.0, 4.0]], requires_grad=True)
    y = F.where(x == 0, 1.0, x)
    np.testing.assert_array_equal(y.data, [[1, 1], [1, 4]])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(F.where(x != 0, x, 1.0).data, y.data)


def test_a_comparison_of_two_numbers_is_an_array_too() -> None:
    for result in (Tensor(1.0) == 1.0, Tensor(1.0) == Tensor(1.0), Tensor(1.0) <= np.float64(2)):
        assert type(result) is np.ndarray
        assert result.shape == ()
        assert result


def test_what_is_no_number_equals_no_element() -> None:
    x = leaf()
    for other in (None, "x"):
        assert not np.any(x == other)
        assert np.all(x != other)


def test_shapes_that_do_not_broadcast_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="could not be broadcast together"):
        leaf() == np.zeros(4)  # noqa: B015  # the error is what counts


def test_a_tensor_is_hashed_by_its_identity() -> None:
    x, same = leaf(), leaf()
    assert len({x, same, x}) == 2
    assert {x: "x"}[x] == "x"


def test_in_asks_for_an_equal_element() -> None:
    x = leaf([1.0, 2.0])
    assert 2 in x
    assert 2.5 not in x
    assert Tensor(1.0) in x


@pytest.mark.parametrize("call", [lambda x: np.exp(x), lambda x: np.add(X, x)], ids=["exp", "add"])
def test_numpys_own_functions_refuse_a_tensor(call: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TypeError, match="does not support ufuncs"):
        call(leaf())


@pytest.mark.parametrize("method", ["exp", "log", "sqrt", "tanh"])
def test_an_elementwise_method_gives_numpys_numbers(method: str) -> None:
    np.testing.assert_array_equal(getattr(leaf(), method)().data, getattr(np, method)(X))


@pytest.mark.parametrize("method", ["sum", "mean", "max", "logsumexp"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)], ids=str)
@pytest.mark.parametrize("keepdims", [False, True], ids=["axes dropped", "axes kept"])
def test_a_reduction_gives_numpys_numbers_and_shape(method: str, axis: Any, keepdims: bool) -> None:
    y = getattr(leaf(), method)(axis, keepdims)
    if method == "logsumexp":
        expected = np.log(np.exp(X).sum(axis=axis, keepdims=keepdims))
    else:
        expected = getattr(X, method)(axis=axis, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    assert isinstance(y.data, np.ndarray)
    np.testing.assert_allclose(y.data, expected, rtol=1e-15)


@st.composite
def broadcastable(draw: st.DrawFn) -> tuple[Array, Array]:
    """Two arrays whose shapes NumPy would broadcast, empty ones among them; none too near to 0 to divide by."""
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=3, max_side=4)).input_shapes
    numbers = st.floats(0.5, 100) | st.floats(-100, -0.5)
    x, y = (draw(hnp.arrays(np.float64, shape, elements=numbers)) for shape in shapes)
    return x.astype(draw(st.sampled_from([np.float32, np.float64]))), y


def summed_to(shape: tuple[int, ...], wide: Array) -> Array:
    """The sum over all elements that broadcasting has made from one, by the plainest loop."""
    total, home = np.zeros(shape), np.broadcast_to(np.arange(np.prod(shape, dtype=int)).reshape(shape), wide.shape)
    for i in np.ndindex(wide.shape):
        total.flat[home[i]] += wide[i]
    return total


@given(
    broadcastable(),
    st.sampled_from(
        [
            (operator.add, lambda x, y: (1, 1)),
            (operator.sub, lambda x, y: (1, -1)),
            (operator.mul, lambda x, y: (y, x)),
            (operator.truediv, lambda x, y: (1 / y, -x / y**2)),
        ]
    ),
)
@settings(max_examples=150)
def test_broadcasting_arithmetic_is_numpys_and_gradients_come_back_in_their_leafs_form(
    arrays: tuple[Array, Array], rule: tuple[Binary, Callable[[Array, Array], tuple[Any, Any]]]
) -> None:
    (x, y), (function, slopes) = arrays, rule
    a, b = leaf(x), leaf(y)
    z = function(a, b)
    np.testing.assert_array_equal(z.data, function(x, y), strict=True)
    z.sum().backward()
    for tensor, slope in zip((a, b), slopes(x.astype(np.float64), y), strict=True):
        expected = summed_to(tensor.shape, np.broadcast_to(slope, z.shape)).astype(tensor.dtype)
        rounding = 1e-6 if tensor.dtype == np.float32 else 1e-13
        np.testing.assert_allclose(tensor.grad, expected, rtol=rounding, atol=1e-11, strict=True)


# dtypes

FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "x + 1": lambda x: x + 1,
    "2 - x": lambda x: 2 - x,
    "1.5 x": lambda x: 1.5 * x,
    "x / 3": lambda x: x / 3,
    "1 / x": lambda x: 1 / x,
    "x ** 2": lambda x: x**2,
    "2 ** x": lambda x: 2**x,
    "mean": lambda x: x.mean(0),
    "sum": lambda x: x.sum(),
    "max": lambda x: x.max(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "gelu": F.gelu,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "maximum": lambda x: F.maximum(x, 0),
    "minimum": lambda x: F.minimum(x, x * 2),
    "where": lambda x: F.where(X > 1, x, 0.0),
    "dropout": lambda x: F.dropout(x, X > 0.6, 0.1),
    "layer_norm": lambda x: F.layer_norm(x, x[0], x[1]),
    "linear": lambda x: F.linear(x, x, x[:, 0]),
    "linear_gelu": lambda x: F.linear_gelu(x, x, x[:, 0]),
    "packed_linear": lambda x: F.packed_linear(x, [x, x], [x[:, 0], x[:, 1]]),
    "causal_attention": lambda x: F.causal_attention(x.reshape(1, 2, 3), 1),
    "embedding": lambda x: F.embedding(np.array([1, 1]), x),
    "cross_entropy": lambda x: F.cross_entropy(x, np.array([1, 1])),
    "linear_cross_entropy": lambda x: F.linear_cross_entropy(x, x, np.array([1, 1])),
    "concatenate": lambda x: F.concatenate([x, x * 2]),
    "stack": lambda x: F.stack([x, x * 2]),
    "index": lambda x: x[np.array([0, 0])],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128], ids=lambda d: d.__name__)
@pytest.mark.parametrize("function", FORMULAS.values(), ids=FORMULAS.keys())
def test_an_operation_keeps_the_dtype_and_so_does_its_gradient(
    function: Callable[[Tensor], Tensor], dtype: Any
) -> None:
    x = leaf(dtype=dtype)
    y = function(x)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


WIDENED: dict[str, Callable[[Tensor, Array], Tensor]] = {  # of a float32 tensor and a float64 (3, 3) array
    "add": lambda x, a: x + a[0],
    "sub": lambda x, a: a[0] - x,
    "mul": lambda x, a: x * a[0],
    "div": lambda x, a: a[0] / x,
    "pow": lambda x, a: x ** a[0],
    "where": lambda x, a: F.where(X > 1, x, a[0]),
    "maximum": lambda x, a: F.maximum(x, a[0]),
    "matmul": lambda x, a: x @ a,
    "linear_cross_entropy": lambda x, a: F.linear_cross_entropy(x, Tensor(a), np.array([0, 1])),
    "linear": lambda x, a: F.linear(x, Tensor(a)),
    "linear_gelu": lambda x, a: F.linear_gelu(x, Tensor(a)),
    "packed_linear": lambda x, a: F.packed_linear(x, [Tensor(a)]),
    "layer_norm": lambda x, a: F.layer_norm(x, Tensor(a[0]), Tensor(a[1])),
    "concatenate": lambda x, a: F.concatenate([x, Tensor(a)]),
    "stack": lambda x, a: F.stack([x, Tensor(a[:2])]),
    "a float64 gradient": lambda x, a: -x,
}


@pytest.mark.parametrize("function", WIDENED.values(), ids=WIDENED.keys())
def test_a_gradient_has_its_leafs_dtype_though_the_other_operand_is_wider(
    function: Callable[[Tensor, Array], Tensor],
) -> None:
    x = leaf(dtype=np.float32)
    y = function(x, np.full((3, 3), 0.5) + np.eye(3))
    y.backward(np.ones(y.shape))
    assert x.grad is not None
    assert x.grad.dtype == np.float32
