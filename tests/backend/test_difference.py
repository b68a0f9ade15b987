"""Differences of outputs are relative, by norms; what has no rounding has to agree in every bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend.difference import FLOAT32_LIMIT, FLOAT64_LIMIT, difference
from nanograd_gpt.backend.precision import set_precision

X = np.array([3.0, 4.0])


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    yield
    set_precision("fp32")


def error(ours: Any, theirs: Any) -> float:
    return difference("linear", "result", [np.asarray(ours)], [np.asarray(theirs)], False).error


def test_the_error_is_relative_by_norms_over_the_whole_output() -> None:
    assert error(X, X) == 0
    assert error(X, [3.0, 4.5]) == pytest.approx(0.1)
    assert error(1j * X, 1j * X + [0, 0.5]) == pytest.approx(0.1)
    assert error(0 * X, [0.3, 0.4]) == pytest.approx(0.5)


def test_several_arrays_of_an_output_count_as_one() -> None:
    """The gradient of a key's bias is 0 but for rounding, beside a query's and a value's."""
    ours, theirs = [X, 1e-13 * X], [X, -1e-13 * X]
    assert difference("packed_linear_backward", "dbiases", ours, theirs, False).is_allowed
    assert not difference("packed_linear_backward", "dbiases", [X, X], [X, -X], False).is_allowed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_a_difference_unless_both_have_it(bad: float) -> None:
    assert error([bad, 1.0], [2.0, 1.0]) == error([2.0, 1.0], [bad, 1.0]) == np.inf
    if np.isinf(bad):
        assert error([bad, 1.0], [bad, 1.0]) == 0


@pytest.mark.parametrize(
    "theirs", [[X[:1]], [X.astype(np.float32)], [X, X], []], ids=["shape", "dtype", "more", "none"]
)
def test_another_shape_dtype_or_number_of_arrays_is_a_difference(theirs: list[Any]) -> None:
    found = difference("linear", "result", [X], theirs, False)
    assert (found.error, found.shape, found.dtype) == (np.inf, (2,), "float64")
    assert difference("linear", "result", theirs, [X], False).error == np.inf


def test_a_mask_agrees_bit_for_bit_or_differs() -> None:
    mask = np.array([True, False, True, True])
    assert difference("keep_mask", "mask", [mask], [mask.copy()], False).is_allowed
    found = difference("keep_mask", "mask", [mask], [mask ^ [True, False, False, False]], False)
    assert (found.error, found.limit, found.in_limits) == (0.25, 0, np.inf)


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
def test_the_limit_is_by_dtype_and_the_precision_loosens_products_of_a_gpu_only(name: str) -> None:
    set_precision(name)
    x = X.astype(np.float32)

    def limit(kernel: str, array: Any, on_gpu: bool = True) -> float:
        return difference(kernel, "result", [array], [array], on_gpu).limit

    assert limit("linear_backward", X) == FLOAT64_LIMIT
    assert limit("adamw", x) == limit("linear", x, on_gpu=False) == limit("matrix_product", x) == FLOAT32_LIMIT
    for kernel in ("layer_norm", "dropout_add"):  # whose results bf16 rounds
        assert limit(kernel, x) == (1e-2 if name == "bf16" else FLOAT32_LIMIT)
    expected = {"fp32": FLOAT32_LIMIT, "tf32": 1e-3, "bf16": 1e-2}[name]
    for kernel in ("linear", "packed_linear_backward", "causal_attention", "linear_cross_entropy"):
        assert limit(kernel, x) == expected
