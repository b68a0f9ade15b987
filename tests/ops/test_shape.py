"""Operations that move elements: no copy where a view does, joins and cuts that undo each other, repeated indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanograd_gpt.nn import functional as F
from nanograd_gpt.ops.shape import selects_unique_elements
from nanograd_gpt.tensor import Tensor

from .oracles import normal

X = normal(4, 6)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(normal(*shape, seed=seed), requires_grad=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(2, -1),
        lambda x: x.T,
        lambda x: x.broadcast_to(3, 4, 6),
        lambda x: x[1:3],
        lambda x: x[..., None],
    ],
    ids=["reshape", "transpose", "broadcast", "slice", "new axis"],
)
def test_a_view_costs_no_memory(function: Any) -> None:
    x = Tensor(X)
    assert np.shares_memory(function(x).data, x.data)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_concatenate_and_stack_are_numpys(axis: int) -> None:
    parts = [leaf(4, 6, seed=i) for i in range(3)]
    arrays = [t.data for t in parts]
    joined, stacked = F.concatenate(parts, axis), F.stack(parts, axis)
    np.testing.assert_array_equal(joined.data, np.concatenate(arrays, axis))
    np.testing.assert_array_equal(stacked.data, np.stack(arrays, axis))
    weights = normal(*joined.shape, seed=9)
    joined.backward(weights)
    for part, expected in zip(parts, np.split(weights, 3, axis), strict=True):
        np.testing.assert_array_equal(part.grad, expected)
        part.zero_grad()
    weights = normal(*stacked.shape, seed=9)
    stacked.backward(weights)
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part.grad, np.take(weights, i, axis))


@pytest.mark.parametrize(("sections", "axis"), [(2, 0), (3, 1), (3, -1), (1, 0), (4, -2)])
def test_split_is_numpys_and_concatenate_undoes_it(sections: int, axis: int) -> None:
    x = Tensor(X, requires_grad=True)
    parts = F.split(x, sections, axis)
    for part, expected in zip(parts, np.split(X, sections, axis), strict=True):
        np.testing.assert_array_equal(part.data, expected)
    weights = normal(4, 6, seed=9)
    F.concatenate(parts, axis).backward(weights)
    np.testing.assert_array_equal(x.grad, weights)


@pytest.mark.parametrize(("sections", "axis"), [(3, 0), (4, 1), (0, 0), (-1, 0)])
def test_split_refuses_unequal_sections(sections: int, axis: int) -> None:
    with pytest.raises(ValueError, match=rf"axis {axis} of shape \(4, 6\) cannot be cut into {sections} equal"):
        F.split(Tensor(X), sections, axis)


@pytest.mark.parametrize(
    "index",
    [
        np.array([2, 0, 2, 2]),
        (np.array([0, 0, 3]), np.array([1, 1, 5])),
        (slice(1, None), np.array([3, -3, 0])),
        np.array([[1, 1], [0, 1]]),
        [1, -3, 1],
    ],
    ids=["rows", "pairs", "columns, one from both ends", "a matrix of rows", "a list"],
)
def test_an_element_taken_several_times_sums_its_gradients(index: Any) -> None:
    x = Tensor(X, requires_grad=True)
    y = x[index]
    weights = normal(*y.shape, seed=9)
    y.backward(weights)
    home, expected = np.arange(24).reshape(4, 6)[index], np.zeros(24)
    for i in np.ndindex(y.shape):
        expected[home[i]] += weights[i]
    assert len(np.unique(home)) < home.size  # some element is taken twice
    np.testing.assert_allclose(x.grad, expected.reshape(4, 6), rtol=1e-14)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (3, True),
        (slice(None), True),
        ((..., None, 2), True),
        (np.array([True, False]), True),
        ((slice(None), np.array([True, False])), True),
        (np.array([0, 0]), False),
        ((slice(None), np.array([1])), False),
        ([0, 0], False),
        (([0, 0], 1), False),
    ],
    ids=repr,
)
def test_which_indices_take_no_element_twice(index: Any, expected: bool) -> None:
    assert selects_unique_elements(index) is expected
