"""Infinities, nan and numbers near the end of float64: where ours are PyTorch's values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # what is imported below needs torch: only once importorskip has found it
import torch.nn.functional as TF

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

torch.set_num_threads(1)

ROWS = np.array(list(product([1.0, np.inf, -np.inf, np.nan, -1e300, 1e300], repeat=3)))
OTHERS = ROWS[:, ::-1].copy()
HEAD = np.eye(3) + 0.1

ONE_ROW: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "softmax": (F.softmax, lambda x: torch.softmax(x, -1)),
    "log_softmax": (F.log_softmax, lambda x: torch.log_softmax(x, -1)),
    "logsumexp": (lambda x: x.logsumexp(-1), lambda x: torch.logsumexp(x, -1)),
    "max": (lambda x: x.max(-1), lambda x: torch.amax(x, -1)),
    "sum": (lambda x: x.sum(-1), lambda x: x.sum(-1)),
    "gelu": (F.gelu, lambda x: TF.gelu(x, approximate="tanh")),
    "tanh": (Tensor.tanh, torch.tanh),
    "exp": (Tensor.exp, torch.exp),
    "log": (Tensor.log, torch.log),
    "sqrt": (Tensor.sqrt, torch.sqrt),
    "cross_entropy": (
        lambda x: F.cross_entropy(x.reshape(1, 3), [1]),
        lambda x: TF.cross_entropy(x.reshape(1, 3), torch.tensor([1])),
    ),
    "linear_cross_entropy": (
        lambda x: F.linear_cross_entropy(x.reshape(1, 3), Tensor(HEAD), [1]),
        lambda x: TF.cross_entropy(x.reshape(1, 3) @ torch.from_numpy(HEAD).T, torch.tensor([1])),
    ),
}
TWO_ROWS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "maximum": (F.maximum, torch.maximum),
    "minimum": (F.minimum, torch.minimum),
    "where": (lambda x, y: F.where(x > y, x, y), lambda x, y: torch.where(x > y, x, y)),
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "mul": (lambda x, y: x * y, lambda x, y: x * y),
    "div": (lambda x, y: x / y, lambda x, y: x / y),
    "pow": (lambda x, y: x**y, lambda x, y: x**y),
}


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> None:
    a = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    b = [torch.tensor(array, requires_grad=True) for array in arrays]
    with np.errstate(all="ignore"):
        y, z = ours(*a), theirs(*b)
        weights = np.linspace(1, 2, y.size).reshape(y.shape)
        y.backward(weights)
    z.backward(torch.from_numpy(weights))
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-13, err_msg=f"value of {arrays}")
    for t, u in zip(a, b, strict=True):
        np.testing.assert_allclose(t.grad, u.grad.numpy(), rtol=1e-13, atol=1e-15, err_msg=f"gradient of {arrays}")


@pytest.mark.parametrize("name", ONE_ROW)
def test_of_a_row_values_and_gradients_are_pytorchs(name: str) -> None:
    for row in ROWS:
        compare(*ONE_ROW[name], row)


@pytest.mark.parametrize("name", TWO_ROWS)
def test_of_two_rows_values_and_gradients_are_pytorchs(name: str) -> None:
    for row, other in zip(ROWS, OTHERS, strict=True):
        compare(*TWO_ROWS[name], row, other)


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4, 1e8])
def test_large_logits_in_float32_lose_nothing(size: float) -> None:
    logits = (size + np.random.default_rng(1).standard_normal((50, 20))).astype(np.float32)
    targets = np.arange(50) % 20
    ours, theirs = Tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    loss, their_loss = F.cross_entropy(ours, targets), TF.cross_entropy(theirs, torch.from_numpy(targets))
    loss.backward()
    their_loss.backward()
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-6)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-5, atol=1e-8)  # type: ignore[arg-type]  # None would fail
    np.testing.assert_allclose(
        F.log_softmax(Tensor(logits)).data, torch.log_softmax(theirs, -1).detach().numpy(), rtol=1e-5, atol=1e-6
    )
