"""Matrix products: against plain loops, against their parts, and float32 against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

from . import oracles
from .oracles import EPS32, check_float32, check_value_and_gradients, normal

X, W, B = normal(2, 5, 4), normal(3, 4), normal(3)


def product_by_loops(x: Array, y: Array) -> Array:
    """(I, J) @ (J, K)"""
    z = np.zeros((len(x), y.shape[1]))
    for i, j, k in np.ndindex(len(x), len(y), y.shape[1]):
        z[i, k] += x[i, j] * y[j, k]
    return z


def test_a_product_is_that_of_plain_loops() -> None:
    x, y = normal(5, 7), normal(7, 3)
    np.testing.assert_allclose((Tensor(x) @ Tensor(y)).data, product_by_loops(x, y), rtol=1e-13)


@pytest.mark.parametrize(
    ("x", "y"),
    [((4,), (4,)), ((4,), (4, 3)), ((3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))],
    ids=["vectors", "row", "column", "broadcast batches", "row on a batch", "batch on a column"],
)
def test_vectors_and_batches_follow_numpys_rules(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    a, b = normal(*x), normal(*y, seed=1)
    z = Tensor(a) @ Tensor(b)
    np.testing.assert_array_equal(z.data, a @ b, strict=True)


@pytest.mark.parametrize(
    ("formula", "oracle", "inputs"),
    [
        (F.linear, oracles.linear, (X, W, B)),
        (F.linear, oracles.linear, (X, W)),
        (F.linear, oracles.linear, (X[0, 0], W, B)),
        (F.linear_gelu, lambda *inputs: oracles.gelu(oracles.linear(*inputs)), (X, W, B)),
        (F.linear_gelu, lambda *inputs: oracles.gelu(oracles.linear(*inputs)), (X, W)),
        (
            lambda x, *ws: F.packed_linear(x, ws),
            lambda x, *ws: F.concatenate([oracles.linear(x, w) for w in ws], axis=-1),
            (X, W, W + 1, W * 2),
        ),
        (
            lambda x, w, v, b, c: F.packed_linear(x, [w, v], [b, c]),
            lambda x, w, v, b, c: F.concatenate([oracles.linear(x, w, b), oracles.linear(x, v, c)], axis=-1),
            (X, W, W + 1, B, B - 1),
        ),
    ],
    ids=[
        "Linear", "Linear without bias", "Linear of one vector", "LinearGELU", "LinearGELU without bias",
        "PackedLinear", "SideBySide with biases",
    ],
)  # fmt: skip
def test_a_fused_layer_is_its_parts_in_value_and_gradient(formula: Any, oracle: Any, inputs: tuple[Array, ...]) -> None:
    check_value_and_gradients(formula, oracle, *inputs)


NOTHING: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]], float]] = {  # of (..., 0): operands, every value
    "linear": (lambda x, w, b: F.linear(x, w, b), [(2, 5, 0), (3, 0), (3,)], 1.0),
    "linear without bias": (lambda x, w: F.linear(x, w), [(2, 0), (3, 0)], 0.0),
    "linear_gelu": (lambda x, w, b: F.linear_gelu(x, w, b), [(2, 0), (3, 0), (3,)], 0.8411919906082768),
    "packed_linear": (lambda x, v, w: F.packed_linear(x, [v, w]), [(2, 0), (3, 0), (3, 0)], 0.0),
    "cross_entropy": (lambda x, w: F.linear_cross_entropy(x, w, np.array([1, 0])), [(2, 0), (3, 0)], np.log(3)),
    "embedding": (lambda w: F.embedding(np.array([1, 2, 1]), w), [(3, 0)], 0.0),
    "layer_norm": (lambda x, scale, shift: F.layer_norm(x, scale, shift), [(2, 0), (0,), (0,)], 0.0),
}


@pytest.mark.parametrize(("function", "shapes", "value"), NOTHING.values(), ids=NOTHING.keys())
def test_a_layer_of_no_channels_has_a_value_and_gradients_as_in_pytorch(
    function: Callable[..., Tensor], shapes: list[tuple[int, ...]], value: float
) -> None:
    leaves = [Tensor(np.ones(shape), requires_grad=True) for shape in shapes]
    y = function(*leaves)
    np.testing.assert_allclose(y.data, np.full(y.shape, value), rtol=1e-15)
    y.backward(np.ones(y.shape))
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.shape == leaf.shape


@pytest.mark.parametrize("inner", [1, 64, 768])
def test_in_float32_a_product_is_within_4_eps_of_the_product_of_sizes(inner: int) -> None:
    a, b = (normal(*shape).astype(np.float32) for shape in ((32, inner), (inner, 48)))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    bound = 4 * EPS32 * (np.abs(wide_a) @ np.abs(wide_b))
    products: tuple[Callable[[], Tensor], ...] = (
        lambda: Tensor(a) @ Tensor(b),
        lambda: F.linear(Tensor(a), Tensor(np.ascontiguousarray(b.T))),
        lambda: F.packed_linear(Tensor(a), [Tensor(b[:, :16].T), Tensor(b[:, 16:32].T), Tensor(b[:, 32:].T)]),
    )
    for product in products:
        result = product().data
        assert result.dtype == np.float32
        assert np.all(np.abs(result - wide_a @ wide_b) <= bound)


@pytest.mark.parametrize("formula", [F.linear, F.linear_gelu], ids=["Linear", "LinearGELU"])
def test_in_float32_the_error_of_a_layer_and_its_gradients_stays_below_1e_6(formula: Any) -> None:
    check_float32(formula, 1e-6, normal(4, 32, 96), 0.1 * normal(384, 96), normal(384))
