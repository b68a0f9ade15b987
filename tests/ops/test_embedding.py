"""Embedding: rows by id, and their gradients summed by id."""

from __future__ import annotations

import numpy as np
import pytest

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from .oracles import normal

WEIGHT = normal(6, 3)


@pytest.mark.parametrize("shape", [(), (5,), (2, 4), (2, 3, 2), (0,)], ids=str)
@pytest.mark.parametrize("dtype", [np.int32, np.int64], ids=lambda d: d.__name__)
def test_a_row_is_that_of_its_id_and_gathers_all_its_gradients(shape: tuple[int, ...], dtype: type) -> None:
    ids = np.random.default_rng(1).integers(0, 6, shape).astype(dtype)
    weight = Tensor(WEIGHT, requires_grad=True)
    y = F.embedding(ids, weight)
    assert y.shape == (*shape, 3)
    dy = normal(*y.shape, seed=2)
    y.backward(dy)
    expected = np.zeros_like(WEIGHT)
    for i in np.ndindex(shape):
        np.testing.assert_array_equal(y.data[i], WEIGHT[ids[i]])
        expected[ids[i]] += dy[i]
    np.testing.assert_allclose(weight.grad, expected, rtol=1e-14)


def test_a_row_that_no_id_names_has_gradient_0() -> None:
    weight = Tensor(WEIGHT, requires_grad=True)
    F.embedding(np.array([[4, 4], [0, 4]]), weight).sum().backward()
    np.testing.assert_array_equal(weight.grad[:, 0], [1, 0, 0, 0, 3, 0])


def test_it_is_a_product_with_the_ids_as_unit_rows() -> None:
    ids = np.array([3, 1, 3])
    one, other = Tensor(WEIGHT, requires_grad=True), Tensor(WEIGHT, requires_grad=True)
    for y in (F.embedding(ids, one), np.eye(6)[ids] @ other):
        (y * y).sum().backward()
    np.testing.assert_allclose(one.grad, other.grad, rtol=1e-15)


def test_an_id_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(IndexError, match="6"):
        F.embedding(np.array([0, 6]), Tensor(WEIGHT))
