"""Tensor: an array that remembers; what it is made of, its backward, its shape, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensor_leaves import X, leaf

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.tensor import Tensor

# What it is made of


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


@pytest.mark.parametrize("data", [["a", "b"], np.array([None]), np.array(["2026-01-01"], dtype="M8[D]")], ids=repr)
def test_an_array_of_anything_but_numbers_and_bools_is_refused_by_its_dtype(data: Any) -> None:
    expected = f"a Tensor holds numbers or bools, got an array of {np.asarray(data).dtype}"
    with pytest.raises(TypeError, match=re.escape(expected)):
        Tensor(data)


def test_a_tensor_of_a_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"its array is \.data"):
        Tensor(leaf())  # type: ignore[arg-type]  # the wrong type is what is tested


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
    with pytest.raises(ValueError, match=r"backward\(\) of shape \(2, 3\) got a gradient of shape"):
        (x * 2).backward(np.ones(shape))
    assert x.grad is None


def test_backward_needs_a_graph() -> None:
    with no_grad():
        in_no_grad = leaf().sum()
    for tensor in (Tensor(1.0), in_no_grad, leaf().sum().detach()):
        with pytest.raises(RuntimeError, match=r"and no input of this Tensor has requires_grad=True"):
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
    with pytest.raises(TypeError, match=r"len\(\) of a 0-d Tensor"):
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


def test_the_rows_of_an_iteration_are_in_the_graph() -> None:
    x = leaf()
    first, second = x
    (first * 2 + second).sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, 2, 2], [1, 1, 1]])  # type: ignore[arg-type]  # None would fail


def test_a_tensor_of_no_axes_cannot_be_iterated_over() -> None:
    with pytest.raises(TypeError, match="0-d Tensor"):
        list(Tensor(3.0))


def test_axes_that_are_not_there_cannot_be_swapped() -> None:
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        leaf().swapaxes(0, 2)
    with pytest.raises(ValueError, match="axis 0 is out of bounds"):
        Tensor(1.0).swapaxes(0, 0)


def test_an_empty_tensor_flattens() -> None:
    assert Tensor(np.zeros((0, 3, 4))).flatten(1).shape == (0, 12)


def test_a_tensor_of_no_axes_flattens_to_one_axis() -> None:
    assert Tensor(1.0).flatten().shape == (1,)
