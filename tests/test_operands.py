"""Operands of operations: a Tensor, an array, a number or a list of numbers, wherever a Tensor is expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanograd_gpt as ng
from nanograd_gpt import functional as F
from nanograd_gpt.gradcheck import check_gradients
from nanograd_gpt.tensor import Tensor

X = np.random.default_rng(3).standard_normal((2, 3, 4))
VALUES = [[1.0, -2.0, 3.0]]
OF_OPERANDS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "cross_entropy": lambda x: F.cross_entropy(x, [0]),
    "linear": lambda x: F.linear(x, [[1.0, 2.0, 3.0]]),
    "layer_norm": lambda x: F.layer_norm(x, [1.0, 1.0, 1.0], np.zeros(3)),
    "dropout": lambda x: F.dropout(x, np.ones((1, 3), dtype=bool), 0.5),
    "maximum": lambda x: F.maximum(x, 0),
    "cat": lambda x: F.cat([x, x]),
    "stack": lambda x: F.stack([x, x]),
    "split": lambda x: F.split(x, 3, 1)[1],
    "topk": lambda x: F.topk(x, 2)[0],
    "Dropout": lambda x: ng.nn.Dropout(0.5, rng=ng.Generator(1))(x),
    "Linear": ng.nn.Linear(3, 2, rng=ng.Generator(1)),
    "apply": lambda x: ng.apply(Doubled, x),
}


class Doubled(ng.Function):
    def forward(self, x: Any) -> Any:
        return 2 * x

    def backward(self, dy: Any) -> Any:
        return (2 * dy,)


@pytest.mark.parametrize("name", OF_OPERANDS)
def test_lists_and_arrays_are_operands_like_tensors(name: str) -> None:
    function = OF_OPERANDS[name]
    results = [function(make(VALUES)) for make in (Tensor, np.array, list)]
    assert all(isinstance(y, Tensor) and y.dtype == np.float64 for y in results)
    if name != "Dropout":  # which draws another mask
        np.testing.assert_array_equal(results[1].data, results[0].data)
        np.testing.assert_array_equal(results[2].data, results[0].data)


ONES = np.ones((2, 3), dtype=np.float32)
OF_NUMBERS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "logsumexp": F.logsumexp,
    "maximum": lambda x: F.maximum(x, 2),
    "minimum": lambda x: F.minimum(2, x),
    "where": lambda x: F.where(True, x, 1),
    "stack": lambda x: F.stack([x, x]),
    "dropout": lambda x: F.dropout(x, np.ones((), dtype=bool), 0.5),
    "apply": lambda x: ng.apply(Doubled, x),
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_number_alone_is_an_operand_like_an_array(name: str) -> None:
    function = OF_NUMBERS[name]
    y = function(3.0)
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, function(np.array(3.0)).data)
    assert y.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.linear(3.0, ONES), r"x has shape \(\)"),
        (lambda: F.linear(ONES, ONES, 1.0), r"bias has shape \(\)"),
        (lambda: F.linear_gelu(3.0, ONES), r"x has shape \(\)"),
        (lambda: F.packed_linear(ONES, [2.0]), r"\(\)"),
        (lambda: F.layer_norm(ONES, 1.0, 0.0), r"scale has shape \(\)"),
        (lambda: F.causal_attention(3.0, 1), r"qkv has shape \(\)"),
        (lambda: F.embedding([0], 3.0), r"weight has shape \(\)"),
        (lambda: F.cross_entropy(3.0, [0]), r"logits have shape \(\)"),
        (lambda: F.linear_cross_entropy(3.0, ONES, [0]), r"x has shape \(\)"),
        (lambda: F.dropout_add(ONES, 2.0, ONES > 0, 0.5), r"residual has shape \(\)"),
        (lambda: F.cat([1.0, 2.0]), "zero-dimensional"),
        (lambda: F.split(1.0, 1), "out of bounds"),
        (lambda: F.topk(1.0, 1), "out of bounds"),
        (lambda: 3.0 @ Tensor(ONES), "matmul"),
    ],
)
def test_a_number_where_axes_are_needed_is_an_error_of_its_shape(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_number_beside_an_array_does_not_widen_it_in_an_operation_of_ones_own() -> None:
    class Scaled(ng.Function):
        def forward(self, x: Any, factor: Any) -> Any:
            self.saved = x, factor
            return x * factor

        def backward(self, dy: Any) -> Any:
            x, factor = self.saved
            return dy * factor, (dy * x).sum()

    assert ng.apply(Scaled, ONES, 2.0).dtype == np.float32
    assert check_gradients(lambda x: ng.apply(Scaled, x, 2.0), [X]) < 1e-12


@pytest.mark.parametrize("operand", ["-inf", None, ["a"], {"x": 1}, [[1.0], [1.0, 2.0]]])
def test_an_operand_that_is_not_of_numbers_is_named(operand: Any) -> None:
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("Where: operand 0", lambda: Tensor(X).masked_fill(X > 0, operand)),
        ("Where: operand 1", lambda: F.where(X > 0, Tensor(X), operand)),
        ("Add: operand 1", lambda: Tensor(X) + operand),
        ("relu: operand 0", lambda: F.relu(operand)),
        ("topk: operand 0", lambda: F.topk(operand, 1)),
        ("Softmax: operand 0", lambda: F.softmax(operand)),
        ("Doubled: operand 0", lambda: ng.apply(Doubled, operand)),
    ]
    for named, call in calls:
        with pytest.raises(TypeError, match=f"{named} is .*; give a Tensor, an array, a number or a list of numbers"):
            call()


def test_a_result_that_is_not_numeric_names_its_operation() -> None:
    with pytest.raises(TypeError, match="Where: the result is an array of <U32; a Tensor holds numbers or bools"):
        F.where(X > 0, Tensor(X), np.array("a"))
