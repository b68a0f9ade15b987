"""Tensor: an array that remembers; its operators against NumPy's, its dtypes, and what it refuses."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from nanograd_gpt.autograd import no_grad
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

X = np.array([[0.5, 1.5, 0.7], [2.0, 0.1, 1.0]])
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
RELATIONS = [operator.lt, operator.le, operator.gt, operator.ge]

Binary = Callable[[Any, Any], Any]


def leaf(values: Any = X, dtype: Any = None) -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


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
@settings(max_examples=150, deadline=None, database=None)
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
    "side_by_side": lambda x: F.side_by_side(x, [x, x], [x[:, 0], x[:, 1]]),
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
    "side_by_side": lambda x, a: F.side_by_side(x, [Tensor(a)]),
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


@pytest.mark.parametrize("data", [np.array([1, 2]), 3, [1, 2], True, np.int64(1)], ids=repr)
def test_integers_refuse_a_gradient_and_the_message_says_what_to_write(data: Any) -> None:
    with pytest.raises(TypeError, match=r"float or complex numbers, got (int64|bool); write 1\.0, not 1"):
        Tensor(data, requires_grad=True)
    assert Tensor(data).data.dtype.kind in "bi"


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float64),
        ([1.5, 2], np.float64),
        (1j, np.complex128),
        (np.float32(1), np.float32),
        (np.ones(2, np.float32), np.float32),
    ],
    ids=["number", "list", "complex", "float32 number", "float32 array"],
)
def test_numbers_and_lists_become_arrays_of_numpys_dtype(data: Any, dtype: Any) -> None:
    tensor = Tensor(data, requires_grad=True)
    assert type(tensor.data) is np.ndarray
    assert tensor.dtype == dtype


def test_an_array_is_held_and_not_copied() -> None:
    x = X.copy()
    assert Tensor(x).data is x


@pytest.mark.parametrize("data", ["x", None, {1: 2}], ids=repr)
def test_what_is_no_array_is_refused_by_name(data: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a NumPy or CuPy array, got {type(data).__name__}"):
        Tensor(data)


def test_a_tensor_of_a_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="detach"):
        Tensor(leaf())  # type: ignore[arg-type]


# backward


def test_backward_starts_from_a_scalar_alone() -> None:
    with pytest.raises(ValueError, match=r"starts from a scalar, not from shape \(2, 3\); use \.sum\(\) or \.mean\(\)"):
        (leaf() * 2).backward()
    x = leaf([[3.0]])
    (x * x).backward()  # of one element, whatever its axes
    np.testing.assert_array_equal(x.grad, [[6.0]])


def test_backward_takes_weights_for_the_elements() -> None:
    x, weights = leaf(), np.arange(6.0).reshape(2, 3)
    (x * x).backward(weights)
    np.testing.assert_array_equal(x.grad, 2 * X * weights)


@pytest.mark.parametrize("shape", [(3, 2), (3,), (), (1, 2, 3)], ids=str)
def test_backward_refuses_a_gradient_of_another_shape(shape: tuple[int, ...]) -> None:
    x = leaf()
    with pytest.raises(ValueError, match=r"backward\(\) of shape \(2, 3\) was handed a gradient of shape"):
        (x * 2).backward(np.ones(shape))
    assert x.grad is None


def test_backward_needs_a_graph() -> None:
    with no_grad():
        in_no_grad = leaf().sum()
    for tensor in (Tensor(1.0), in_no_grad, leaf().sum().detach()):
        with pytest.raises(RuntimeError, match=r"no tensor that leads here has requires_grad=True"):
            tensor.backward()


def test_a_leaf_is_its_own_gradient() -> None:
    x = leaf(3.0)
    x.backward()
    x.backward()
    assert x.grad == 2


def test_gradients_add_up_until_zero_grad() -> None:
    x = leaf()
    for times in (1, 2):
        (x * 3).sum().backward()
        np.testing.assert_array_equal(x.grad, np.full_like(X, 3 * times))
    x.zero_grad()
    assert x.grad is None
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full_like(X, 3))


def test_only_a_leaf_shows_its_gradient() -> None:
    x = leaf()
    y = x * 2
    y.sum().backward()
    assert y.grad is None
    y.zero_grad()
    assert x.grad is not None


# Out of the graph


def test_detach_shares_the_array_and_ends_the_graph() -> None:
    x = leaf()
    y = (x * 2).detach()
    assert not y.requires_grad
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * X)
    assert x.detach().data is x.data


def test_numpy_gives_the_array_itself_outside_a_graph_only() -> None:
    x = Tensor(X)
    assert x.numpy() is X
    for tensor in (leaf(), leaf() * 2):
        with pytest.raises(RuntimeError, match=r"use \.detach\(\)\.numpy\(\)"):
            tensor.numpy()


def test_item_and_float_give_pythons_number_of_the_one_element() -> None:
    for one in (Tensor(2.5), Tensor([[2.5]]), Tensor(np.float32(2.5)), leaf(2.5)):
        assert type(one.item()) is float
        assert one.item() == float(one) == 2.5
    for several in (Tensor(X), Tensor(np.empty(0))):
        with pytest.raises(ValueError, match="one element; this one has shape"):
            several.item()
        with pytest.raises(ValueError, match="one element"):
            float(several)


def test_facts_are_the_arrays() -> None:
    x = Tensor(X)
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.device) == ((2, 3), 2, 6, np.float64, 2, "cpu")
    with pytest.raises(TypeError, match="no dimensions has no length"):
        len(Tensor(1.0))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor([1.0, 2.5]), "Tensor([1. , 2.5], shape=(2,), float64, cpu)"),
        (leaf([1.0], np.float32), "Tensor([1.], shape=(1,), float32, cpu, requires_grad)"),
        (leaf(2.0) * 3, "Tensor(6., shape=(), float64, cpu, Mul)"),
        (Tensor(np.array([1, 2])), "Tensor([1, 2], shape=(2,), int64, cpu)"),
    ],
    ids=["outside a graph", "leaf", "result", "integers"],
)
def test_repr_tells_values_shape_dtype_device_and_origin(tensor: Tensor, text: str) -> None:
    assert repr(tensor) == text


def test_repr_of_a_large_tensor_is_short() -> None:
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 500


# Shape


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.reshape(4, 6), lambda a: a.reshape(4, 6)),
        (lambda x: x.reshape((4, 6)), lambda a: a.reshape(4, 6)),
        (lambda x: x.reshape([4, 6]), lambda a: a.reshape(4, 6)),
        (lambda x: x.reshape(-1), lambda a: a.ravel()),
        (lambda x: x.reshape(2, -1, 2), lambda a: a.reshape(2, 6, 2)),
        (lambda x: x.flatten(), lambda a: a.ravel()),
        (lambda x: x.flatten(1), lambda a: a.reshape(2, 12)),
        (lambda x: x.flatten(0, 1), lambda a: a.reshape(6, 4)),
        (lambda x: x.flatten(-2), lambda a: a.reshape(2, 12)),
        (lambda x: x.transpose(), lambda a: a.T),
        (lambda x: x.T, lambda a: a.T),
        (lambda x: x.transpose(1, 2, 0), lambda a: a.transpose(1, 2, 0)),
        (lambda x: x.transpose((-1, 0, 1)), lambda a: a.transpose(2, 0, 1)),
        (lambda x: x.swapaxes(0, 2), lambda a: a.swapaxes(0, 2)),
        (lambda x: x.swapaxes(-1, -2), lambda a: a.swapaxes(-1, -2)),
        (lambda x: x.broadcast_to(5, 2, 3, 4), lambda a: np.broadcast_to(a, (5, 2, 3, 4))),
        (lambda x: x[1], lambda a: a[1]),
        (lambda x: x[-1, ..., ::2], lambda a: a[-1, ..., ::2]),
        (lambda x: x[:, None, 1], lambda a: a[:, None, 1]),
        (lambda x: x[np.array([0, 1, 0])], lambda a: a[[0, 1, 0]]),
        (lambda x: x[:, Tensor(np.array([2, 0]))], lambda a: a[:, [2, 0]]),
        (lambda x: x[Tensor(np.array([1]))], lambda a: a[[1]]),
        (lambda x: x[[0, 0]], lambda a: a[[0, 0]]),
        (lambda x: x[np.arange(24).reshape(2, 3, 4) % 2 == 0], lambda a: a.ravel()[::2]),
    ],
    ids=[
        "reshape numbers", "reshape a tuple", "reshape a list", "reshape -1", "reshape with -1",
        "flatten", "flatten from 1", "flatten 0 to 1", "flatten from -2",
        "transpose", "T", "transpose numbers", "transpose a tuple", "swapaxes", "swapaxes from the end", "broadcast_to",
        "a number", "an ellipsis and a step", "a new axis", "an array", "a slice and a Tensor", "a Tensor", "a list",
        "a mask",
    ],
)  # fmt: skip
def test_a_change_of_shape_moves_elements_as_numpy_does(
    function: Callable[[Tensor], Tensor], expected: Callable[[Array], Array]
) -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    x = leaf(values)
    y = function(x)
    np.testing.assert_array_equal(y.data, expected(values))
    weights = np.random.default_rng(0).random(y.shape)
    y.backward(weights)
    into = np.zeros(24)  # where each element of the result came from
    np.add.at(into, expected(np.arange(24).reshape(2, 3, 4)).ravel(), weights.ravel())
    np.testing.assert_allclose(x.grad, into.reshape(2, 3, 4), rtol=1e-15)


def test_iteration_ends_with_the_last_row() -> None:
    assert [row.item() for row in Tensor([1.0, 2.0, 3.0])] == [1, 2, 3]


def test_an_empty_tensor_flattens() -> None:
    assert Tensor(np.zeros((0, 3, 4))).flatten(1).shape == (0, 12)


def test_a_tensor_of_no_axes_flattens_to_one_axis() -> None:
    assert Tensor(1.0).flatten().shape == (1,)
