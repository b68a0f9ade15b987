"""Operands that do not fit: an operation names the shape or dtype, and never broadcasts by mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.ops.elementwise import Exp
from nanograd_gpt.tensor import Tensor, apply

from .oracles import normal


def leaf(*shape: int, dtype: Any = np.float64) -> Tensor:
    return Tensor(normal(*shape).astype(dtype), requires_grad=True)


def keep(*shape: int) -> Array:
    return np.ones(shape, dtype=bool)


def ids(*shape: int) -> Array:
    return np.zeros(shape, dtype=np.int64)


def head(x: Any, targets: Any, weight: Any = None) -> Tensor:
    return F.linear_cross_entropy(x, leaf(6, 3) if weight is None else weight, targets)


def qkv_layers(n_weights: int, n_biases: int, width: int = 5) -> Tensor:
    widths = [5] * (n_weights - 1) + [width]
    return F.packed_linear(leaf(2, 4), [leaf(n, 4) for n in widths], [leaf(5) for _ in range(n_biases)])


WRONG_SHAPES: dict[str, tuple[Callable[[], Tensor], str]] = {
    "column of targets": (
        lambda: F.cross_entropy(leaf(4, 6), ids(4, 1)), r"targets has shape \(4, 1\), expected \(4,\)"),
    "row of targets": (
        lambda: F.cross_entropy(leaf(4, 6), ids(1, 4)), r"targets has shape \(1, 4\), expected \(4,\)"),
    "too few targets": (lambda: F.cross_entropy(leaf(4, 6), ids(3)), r"targets has shape \(3,\), expected \(4,\)"),
    "one target for all": (lambda: F.cross_entropy(leaf(4, 6), 0), r"targets has shape \(\), expected \(4,\)"),
    "logits of a batch": (
        lambda: F.cross_entropy(leaf(2, 4, 6), ids(2, 4)), r"logits have shape \(2, 4, 6\), expected \(N, V\)"),
    "logits of one row": (lambda: F.cross_entropy(leaf(6), ids(1)), r"logits have shape \(6,\), expected \(N, V\)"),
    "head, column of targets": (
        lambda: head(leaf(4, 3), ids(4, 1)), r"targets has shape \(4, 1\), expected \(4,\)"),
    "head, row of targets": (lambda: head(leaf(4, 3), ids(1, 4)), r"targets has shape \(1, 4\), expected \(4,\)"),
    "head, a batch": (lambda: head(leaf(2, 4, 3), ids(8)), r"x has shape \(2, 4, 3\) and weight \(6, 3\)"),
    "head, other channels": (lambda: head(leaf(4, 2), ids(4)), r"x has shape \(4, 2\) and weight \(6, 3\)"),
    "head, a vector": (lambda: head(leaf(4, 3), ids(4), leaf(3)), r"x has shape \(4, 3\) and weight \(3,\)"),
    "dropout, broadcast": (
        lambda: F.dropout(leaf(4, 3), keep(3), 0.1), r"keep has shape \(3,\), expected \(4, 3\)"),
    "dropout, same size": (
        lambda: F.dropout(leaf(4, 3), keep(3, 4), 0.1), r"keep has shape \(3, 4\), expected \(4, 3\)"),
    "dropout_add, mask": (
        lambda: F.dropout_add(leaf(4, 3), leaf(4, 3), keep(4, 1), 0.1), r"keep has shape \(4, 1\), expected \(4, 3\)"),
    "dropout_add, residual": (
        lambda: F.dropout_add(leaf(4, 3), leaf(3), keep(4, 3), 0.1), r"residual has shape \(3,\), expected \(4, 3\)"),
    "scale of 1": (lambda: F.layer_norm(leaf(4, 3), leaf(1), leaf(3)), r"scale has shape \(1,\), expected \(3,\)"),
    "scale a row": (
        lambda: F.layer_norm(leaf(4, 3), leaf(4, 3), leaf(3)), r"scale has shape \(4, 3\), expected \(3,\)"),
    "shift of 1": (lambda: F.layer_norm(leaf(4, 3), leaf(3), leaf(1)), r"shift has shape \(1,\), expected \(3,\)"),
    "bias of 1": (lambda: F.linear(leaf(4, 3), leaf(5, 3), leaf(1)), r"bias has shape \(1,\), expected \(5,\)"),
    "bias a row": (lambda: F.linear(leaf(4, 3), leaf(5, 3), leaf(4, 5)), r"bias has shape \(4, 5\), expected \(5,\)"),
    "weight a vector": (lambda: F.linear(leaf(4, 3), leaf(3)), r"x has shape \(4, 3\) and weight \(3,\)"),
    "weight transposed": (lambda: F.linear(leaf(4, 3), leaf(3, 5)), r"x has shape \(4, 3\) and weight \(3, 5\)"),
    "a number for x": (lambda: F.linear(leaf(), leaf(5, 3)), r"x has shape \(\) and weight \(5, 3\)"),
    "gelu, bias of 1": (lambda: F.linear_gelu(leaf(4, 3), leaf(5, 3), leaf(1)), r"bias has shape \(1,\)"),
    "gelu, weight": (lambda: F.linear_gelu(leaf(4, 3), leaf(3, 5)), r"x has shape \(4, 3\) and weight \(3, 5\)"),
    "two biases for three": (lambda: qkv_layers(3, 2), "3 weights need 3 biases or none, got 2"),
    "widths that differ": (lambda: qkv_layers(3, 3, width=7), r"a weight has shape \(7, 4\), expected \(5, 4\)"),
    "qkv a matrix": (lambda: F.causal_attention(leaf(4, 12), 2), r"qkv has shape \(4, 12\), expected \(B, T, 3 \* C\)"),
    "heads that do not share": (lambda: F.causal_attention(leaf(2, 4, 12), 3), "C >= 1 a multiple of n_heads 3"),
    "no heads": (lambda: F.causal_attention(leaf(2, 4, 12), 0), "C >= 1 a multiple of n_heads 0"),
    "no channels": (lambda: F.causal_attention(leaf(2, 4, 0), 1), r"qkv has shape \(2, 4, 0\), expected .* C >= 1"),
    "attention's mask": (
        lambda: F.causal_attention(leaf(2, 4, 12), 2, keep(4, 4), 0.1), r"keep has shape \(4, 4\), expected \(2, 2, 4"),
    "embedding of 3-d": (lambda: F.embedding(ids(2), leaf(4, 3, 2)), r"weight has shape \(4, 3, 2\), expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_a_shape_that_does_not_fit_is_named(name: str) -> None:
    call, message = WRONG_SHAPES[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert str(error.value.__notes__[-1]).startswith("in ")


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, np.nan, np.inf])
def test_a_rate_outside_0_to_1_is_refused_by_all_that_drop(rate: float) -> None:
    for call in (
        lambda: F.dropout(leaf(4, 3), keep(4, 3), rate),
        lambda: F.dropout_add(leaf(4, 3), leaf(4, 3), keep(4, 3), rate),
        lambda: F.causal_attention(leaf(2, 4, 12), 2, keep(2, 2, 4, 4), rate),
        lambda: F.causal_attention(leaf(2, 4, 12), 2, None, rate),
    ):
        with pytest.raises(ValueError, match=r"the dropout rate is \S+, expected a number in \[0, 1\)"):
            call()


WRONG_KINDS: dict[str, tuple[Callable[[], Tensor], str]] = {
    "targets of floats": (lambda: F.cross_entropy(leaf(4, 6), np.zeros(4)), "ids are of float64, expected integers"),
    "targets of bools": (lambda: F.cross_entropy(leaf(4, 6), keep(4)), "ids are of bool, expected integers"),
    "head, targets of floats": (lambda: head(leaf(4, 3), np.zeros(4)), "ids are of float64, expected integers"),
    "ids of floats": (lambda: F.embedding(np.zeros(2), leaf(4, 3)), "ids are of float64, expected integers"),
    "ids of bools": (lambda: F.embedding(keep(2), leaf(4, 3)), "ids are of bool, expected integers"),
    "a mask of floats": (lambda: F.dropout(leaf(3), np.ones(3), 0.5), "keep is of float64, expected bools"),
    "a mask of integers": (lambda: F.dropout(leaf(3), ids(3), 0.5), "keep is of int64, expected bools"),
    "attention's mask of integers": (
        lambda: F.causal_attention(leaf(1, 2, 3), 1, ids(1, 1, 2, 2)), "keep is of int64, expected bools"),
    **{
        f"{name} of integers": (call, "expected floating-point numbers, got int64")
        for name, call in {
            "gelu": lambda: F.gelu(Tensor(ids(3))),
            "softmax": lambda: F.softmax(Tensor(ids(3))),
            "log_softmax": lambda: F.log_softmax(Tensor(ids(3))),
            "dropout": lambda: F.dropout(Tensor(ids(3)), keep(3), 0.5),
            "dropout_add": lambda: F.dropout_add(Tensor(ids(3)), Tensor(ids(3)), keep(3), 0.5),
            "layer_norm": lambda: F.layer_norm(Tensor(ids(3)), Tensor(ids(3)), Tensor(ids(3))),
            "linear": lambda: F.linear(Tensor(ids(2, 3)), Tensor(ids(4, 3))),
            "linear_gelu": lambda: F.linear_gelu(Tensor(ids(2, 3)), Tensor(ids(4, 3))),
            "attention": lambda: F.causal_attention(Tensor(ids(1, 2, 3)), 1),
            "cross_entropy": lambda: F.cross_entropy(Tensor(ids(2, 3)), ids(2)),
            "linear_cross_entropy": lambda: F.linear_cross_entropy(Tensor(ids(2, 3)), Tensor(ids(4, 3)), ids(2)),
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_a_dtype_of_the_wrong_kind_is_named(name: str) -> None:
    call, message = WRONG_KINDS[name]
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_ids_may_be_integers_of_any_size(dtype: Any) -> None:
    weight, of_int64 = leaf(5, 3), leaf(5, 3)
    of_int64.data[...] = weight.data
    rows = np.array([4, 0, 4])
    for table, chosen in ((weight, rows.astype(dtype)), (of_int64, rows)):
        F.cross_entropy(F.embedding(chosen, table), chosen % 3).backward()
    np.testing.assert_array_equal(weight.grad, of_int64.grad)  # type: ignore[arg-type]  # None would fail


def test_ids_may_be_a_tensor_or_a_list() -> None:
    weight = leaf(5, 3)
    for rows in (np.array([4, 0]), Tensor(np.array([4, 0])), [4, 0], (4, 0)):
        np.testing.assert_array_equal(F.embedding(rows, weight).data, weight.data[[4, 0]])
        assert F.cross_entropy(leaf(2, 5), rows).shape == ()
        assert F.linear_cross_entropy(leaf(2, 3), weight, rows).shape == ()
    np.testing.assert_array_equal(F.embedding(2, weight).data, weight.data[2])


# Where dtypes meet, the result is of NumPy's promotion, whatever the number of elements


def mixed(operation: str, n: int, x_dtype: Any, other: Any) -> tuple[Tensor, list[Tensor]]:
    x = leaf(n, 3, dtype=x_dtype)
    operands = {
        "layer_norm": [leaf(3, dtype=other), leaf(3, dtype=x_dtype)],
        "linear": [leaf(5, 3, dtype=other), leaf(5, dtype=x_dtype)],
        "linear_gelu": [leaf(5, 3, dtype=other), leaf(5, dtype=x_dtype)],
        "dropout_add": [leaf(n, 3, dtype=other)],
        "packed_linear": [leaf(5, 3, dtype=other), leaf(5, 3, dtype=x_dtype)],
        "linear_cross_entropy": [leaf(5, 3, dtype=other)],
        "multiply": [leaf(n, 3, dtype=other)],
        "matmul": [leaf(3, 2, dtype=other)],
        "concatenate": [leaf(1, 3, dtype=other)],
    }[operation]
    result = {
        "layer_norm": lambda: F.layer_norm(x, *operands),
        "linear": lambda: F.linear(x, *operands),
        "linear_gelu": lambda: F.linear_gelu(x, *operands),
        "dropout_add": lambda: F.dropout_add(x, operands[0], keep(n, 3), 0.5),
        "packed_linear": lambda: F.packed_linear(x, operands),
        "linear_cross_entropy": lambda: F.linear_cross_entropy(x, operands[0], ids(n)),
        "multiply": lambda: x * operands[0],
        "matmul": lambda: x @ operands[0],
        "concatenate": lambda: F.concatenate([x, *operands]),
    }[operation]()
    return result, [x, *operands]


@pytest.mark.parametrize("n", [1, 4, 5000], ids=["one row", "a few", "many"])
@pytest.mark.parametrize(
    ("x_dtype", "other"), [(np.float32, np.float64), (np.float64, np.float32), (np.float16, np.float32)]
)
@pytest.mark.parametrize(
    "operation",
    ["layer_norm", "linear", "linear_gelu", "dropout_add", "packed_linear", "linear_cross_entropy", "multiply",
     "matmul", "concatenate"],
)  # fmt: skip
def test_mixed_dtypes_give_numpys_promotion_and_gradients_in_their_own(
    operation: str, x_dtype: Any, other: Any, n: int
) -> None:
    result, leaves = mixed(operation, n, x_dtype, other)
    assert result.dtype == np.result_type(x_dtype, other)
    result.sum().backward()
    for t in leaves:
        assert t.grad is not None
        assert t.grad.dtype == t.dtype
        assert np.isfinite(t.grad).all()


def test_mixed_dtypes_compute_in_the_wider_one() -> None:
    scale, shift = normal(3), normal(3)
    for n in (4000, 2):  # large arrays and small ones are computed in different ways
        x = normal(n, 3).astype(np.float32)
        expected = F.layer_norm(Tensor(x.astype(np.float64)), Tensor(scale), Tensor(shift)).data
        np.testing.assert_array_equal(F.layer_norm(Tensor(x), Tensor(scale), Tensor(shift)).data, expected)


def test_an_intermediate_gradient_has_its_tensors_dtype() -> None:
    seen: list[Any] = []

    class Look(Exp):
        def backward(self, dy: Array) -> Any:
            seen.append(dy.dtype)
            return super().backward(dy)

    (apply(Look, leaf(3, dtype=np.float32)) * leaf(3)).sum().backward()
    assert seen == [np.float32]


def test_a_real_leaf_gets_the_real_part_of_a_complex_gradient() -> None:
    x, z = leaf(3), np.array([1 + 2j, 3 - 1j, -2j])
    (x * z).sum().backward()
    np.testing.assert_array_equal(x.grad, z.real)  # type: ignore[arg-type]  # None would fail
