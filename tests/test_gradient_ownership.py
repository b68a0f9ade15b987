"""Ownership of a gradient's memory: leaves and their buffers, and gradients that are handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from autograd_leaves import Loss, X, leaf

from nanograd_gpt.autograd import Function, Leaf
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor, apply


def buffer_of(tensor: Tensor) -> Array:
    assert isinstance(tensor.node, Leaf)
    assert tensor.node.buffer is not None
    return tensor.node.buffer


class Identity(Function):
    """Hands dy on as it is, and locks it: who writes to it from then on gets a ValueError."""

    view = False

    def forward(self, x: Array) -> Array:
        return x.copy()

    def backward(self, dy: Array) -> tuple[Array]:
        dy = dy[...] if self.view else dy
        dy.flags.writeable = False
        return (dy,)


class IdentityView(Identity):
    """Hands on a view of dy."""

    view = True


class IdentityCopy(Identity):
    """Hands on a new array."""

    def backward(self, dy: Array) -> tuple[Array]:
        return (dy.copy(),)


# Leaves and their buffers


def squared_and_linear(h: Tensor) -> Tensor:
    return (h * h).sum() + F.linear(Tensor(X), h).sum()


IDS = np.array([1, 0, 1])
WEIGHTED: dict[str, Loss] = {  # losses of one (3, 3) weight, through a sink and through a plain gradient
    "Mul": lambda w: (w * w).sum(),
    "Linear": lambda w: (F.linear(Tensor(X), w) ** 2).sum(),
    "Linear, x and weight": lambda w: (F.linear(w, w)).sum(),
    "LinearGELU": lambda w: F.linear_gelu(Tensor(X), w).sum(),
    "LinearGELU, weight and bias rows": lambda w: F.linear_gelu(Tensor(X), w, w[0]).sum(),
    "PackedLinear, one weight twice": lambda w: (F.packed_linear(Tensor(X), [w, w]) ** 2).sum(),
    "LayerNorm, scale and shift": lambda w: (F.layer_norm(w, w[0], w[0]) ** 2).sum(),
    "Embedding": lambda w: (F.embedding(IDS, w) ** 2).sum(),
    "LinearCrossEntropy": lambda w: F.linear_cross_entropy(Tensor(X), w, IDS[:2]),
    "LinearCrossEntropy, x and weight": lambda w: F.linear_cross_entropy(w, w, IDS),
    "Linear, of a result with an older use": lambda w: squared_and_linear(w * 1.0),
    "two sinks in two operations": lambda w: F.linear(F.linear(Tensor(X), w).tanh(), w).sum(),
}


@pytest.mark.parametrize("loss", WEIGHTED.values(), ids=WEIGHTED.keys())
def test_a_buffer_is_written_over_after_zero_grad_and_added_to_otherwise(loss: Loss) -> None:
    values = X.T @ X / 3
    plain, w = leaf(values), leaf(values, buffer=True)
    loss(plain).backward()
    expected = plain.grad
    assert expected is not None
    for _ in range(2):
        loss(w).backward()
        assert w.grad is buffer_of(w)
        np.testing.assert_allclose(w.grad, expected, rtol=1e-14)
        loss(w).backward()
        assert w.grad is buffer_of(w)
        np.testing.assert_allclose(w.grad, 2 * expected, rtol=1e-14)
        w.zero_grad()
        assert w.grad is None
        buffer_of(w)[...] = np.nan


@pytest.mark.parametrize("buffer", [False, True], ids=["no buffer", "buffer"])
@pytest.mark.parametrize(
    ("loss", "values"),
    [
        pytest.param(lambda a, b: F.layer_norm(Tensor(X), a, b), [0.5, 1, 2], id="scale and shift"),
        pytest.param(lambda a, b: F.packed_linear(Tensor(X), [a, b]), X, id="two weights"),
        pytest.param(lambda a, b: F.linear(a, b), X, id="x and weight"),
        pytest.param(lambda a, b: F.linear_gelu(a, b), X, id="x and weight, with GELU"),
    ],
)
def test_one_leaf_as_two_inputs_of_a_sinking_operation_gets_both_gradients(
    loss: Loss, values: Any, buffer: bool
) -> None:
    a, b, both = leaf(values), leaf(values), leaf(values, buffer)
    (loss(a, b) ** 2).sum().backward()
    for times in (1, 2):
        (loss(both, both) ** 2).sum().backward()
        np.testing.assert_allclose(both.grad, times * (a.grad + b.grad), rtol=1e-14)


def test_a_leafs_gradient_is_an_array_even_without_axes() -> None:
    for buffer in (False, True):
        x = leaf(2.0, buffer)
        (x * x).backward()
        assert isinstance(x.grad, np.ndarray)
        assert x.grad.shape == ()


# Ownership


@pytest.mark.parametrize("op", [Identity, IdentityView], ids=["dy itself", "a view of dy"])
@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda op, h, x: apply(op, h) + h.tanh(), id="before a fresh gradient"),
        pytest.param(lambda op, h, x: h.tanh() + apply(op, h), id="after a fresh gradient"),
        pytest.param(lambda op, h, x: apply(op, h) + apply(op, h), id="twice"),
        pytest.param(lambda op, h, x: apply(op, x) + apply(op, x) + h, id="to a leaf"),
    ],
)
def test_a_borrowed_gradient_is_never_written_to(op: type[Function], function: Loss) -> None:
    borrowed, fresh = leaf(), leaf()
    for x, identity in ((borrowed, op), (fresh, IdentityCopy)):
        function(identity, x * 2.0, x).sum().backward()
    np.testing.assert_array_equal(borrowed.grad, fresh.grad)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x + x.tanh(), id="fan-out"),
        pytest.param(lambda x: apply(Identity, x), id="dy itself"),
        pytest.param(lambda x: apply(IdentityView, x), id="a view"),
        pytest.param(lambda x: x, id="the leaf itself"),
        pytest.param(lambda x: x.T.T, id="transposed"),
    ],
)
def test_the_gradient_handed_to_backward_stays_the_callers(function: Loss) -> None:
    x, given = leaf(), np.ones_like(X)
    for _ in range(2):
        given.flags.writeable = True
        function(x).backward(given)
        np.testing.assert_array_equal(given, 1)
    assert x.grad is not None
    assert not np.shares_memory(x.grad, given)


def test_a_leafs_own_gradient_may_be_handed_to_backward() -> None:
    x = leaf()
    (x * 1.0).sum().backward()
    (x * 2.0 + x).backward(x.grad)
    np.testing.assert_array_equal(x.grad, np.full_like(X, 1 + 3))


def test_leaves_that_were_handed_one_gradient_have_an_array_each() -> None:
    x, y = leaf(), leaf()
    for times in (1, 2):
        (x + y).sum().backward()
        np.testing.assert_array_equal(x.grad, times)
        np.testing.assert_array_equal(y.grad, times)


def test_a_real_leaf_has_an_array_of_its_own_after_a_complex_gradient() -> None:
    x, z = leaf(), Tensor(X + 1j, requires_grad=True)
    given = np.full_like(z.data, 1 + 2j)
    (x + z + x).backward(given)
    np.testing.assert_array_equal(given, 1 + 2j)
    np.testing.assert_array_equal(x.grad, 2)
    np.testing.assert_array_equal(z.grad, 1 + 2j)
    assert x.grad is not None
    assert x.grad.flags.c_contiguous
    assert not np.shares_memory(x.grad, given)


def test_a_gradient_nobody_wants_is_not_asked_for() -> None:
    wanted: list[bool] = []

    class Wants(Function):
        def forward(self, *arrays: Array) -> Array:
            wanted.extend(self.needs_input_grad(i) for i in range(4))
            return np.add.reduce(arrays)

        def backward(self, dy: Array) -> list[Array | None]:
            wanted.extend(self.needs_input_grad(i) for i in range(4))
            return [dy, dy, None]

    x, y, z = leaf(), Tensor(X), leaf()
    out = apply(Wants, x, y, z)
    out.sum().backward()
    assert wanted == [True, False, True, False] * 2
    assert y.grad is None
    assert z.grad is None  # the rule gave none
    np.testing.assert_array_equal(x.grad, 1)
    with no_grad():
        apply(Wants, x, y, z)
    assert wanted[8:] == [False] * 4
