"""The operations against PyTorch's, where it is installed: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # what is imported below needs torch: only once importorskip has found it
import torch.nn.functional as TF
from oracle.closeness import assert_close, relative_error

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

torch.set_num_threads(1)

OPERATION = 1e-12

rng = np.random.default_rng(11)
x34, x4, x31 = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal((3, 1))
x243, x234, x534 = (rng.standard_normal(s) for s in ((2, 4, 3), (2, 3, 4), (5, 3, 4)))
wide = np.array([[-40.0, -3.0, -0.5, 0.0], [1e-8, 0.5, 3.0, 40.0], [100.0, -100.0, 1e-3, -1e-3]])
positive = np.exp(x34)
tied = np.array([[2.0, 1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0], [-1.0, 0.0, -2.0, 0.0]])
tied_too = np.array([[2.0, 5.0, -2.0, 0.0], [3.0, 1.0, 3.0, 4.0], [-1.0, 0.0, 2.0, 1.0]])
ids = np.array([[3, 0, 3], [1, 3, 3]])
targets = np.array([3, 0, 0])
choice = np.array([[True, False, True, True], [False, False, True, False], [True, True, False, False]])
head, bias = rng.standard_normal((6, 4)), rng.standard_normal(6)
qkv = rng.standard_normal((2, 5, 3 * 6))

T_ids, T_targets, T_choice = (torch.from_numpy(a) for a in (ids, targets, choice))


def their_attention(qkv: Any, n_heads: int) -> Any:
    B, T, C3 = qkv.shape
    q, k, v = qkv.reshape(B, T, 3, n_heads, C3 // 3 // n_heads).permute(2, 0, 3, 1, 4)
    return TF.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C3 // 3)


Operation = tuple[Callable[..., Any], Callable[..., Any], list[npt.NDArray[Any]]]
OPERATIONS: dict[str, Operation] = {
    "gelu": (F.gelu, lambda x: TF.gelu(x, approximate="tanh"), [x234]),
    "gelu, far out": (F.gelu, lambda x: TF.gelu(x, approximate="tanh"), [wide]),
    "layer_norm": (F.layer_norm, lambda x, s, t: TF.layer_norm(x, (4,), s, t), [x234, x4, x34[0]]),
    "layer_norm, wide": (F.layer_norm, lambda x, s, t: TF.layer_norm(x, (4,), s, t), [wide, x4, x34[0]]),
    "layer_norm, other eps": (
        lambda x, s, t: F.layer_norm(x, s, t, 0.1),
        lambda x, s, t: TF.layer_norm(x, (4,), s, t, 0.1),
        [x234, x4, x34[0]],
    ),
    "softmax": (F.softmax, lambda x: TF.softmax(x, -1), [x234]),
    "softmax, wide": (F.softmax, lambda x: TF.softmax(x, -1), [wide]),
    "softmax, axis 1": (lambda x: F.softmax(x, 1), lambda x: TF.softmax(x, 1), [x234]),
    "log_softmax": (F.log_softmax, lambda x: TF.log_softmax(x, -1), [x234]),
    "log_softmax, wide": (F.log_softmax, lambda x: TF.log_softmax(x, -1), [wide]),
    "log_softmax, axis 0": (lambda x: F.log_softmax(x, 0), lambda x: TF.log_softmax(x, 0), [x234]),
    "logsumexp": (F.logsumexp, lambda x: torch.logsumexp(x, (0, 1)), [x34]),
    "logsumexp, axis": (lambda x: F.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), [x234]),
    "logsumexp, axes": (
        lambda x: F.logsumexp(x, (0, -1), True),
        lambda x: torch.logsumexp(x, (0, -1), True),
        [x234],
    ),
    "logsumexp, wide": (lambda x: F.logsumexp(x, -1), lambda x: torch.logsumexp(x, -1), [wide]),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, targets),
        lambda x: TF.cross_entropy(x, T_targets),
        [x34],
    ),
    "cross_entropy, wide": (
        lambda x: F.cross_entropy(x, targets),
        lambda x: TF.cross_entropy(x, T_targets),
        [wide],
    ),
    "linear_cross_entropy": (
        lambda x, w: F.linear_cross_entropy(x, w, targets),
        lambda x, w: TF.cross_entropy(TF.linear(x, w), T_targets),
        [x34, head],
    ),
    "embedding": (lambda w: F.embedding(ids, w), lambda w: TF.embedding(T_ids, w), [head]),
    "linear": (F.linear, TF.linear, [x234, head, bias]),
    "linear without bias": (F.linear, TF.linear, [x234, head]),
    "linear_gelu": (F.linear_gelu, lambda x, w, b: TF.gelu(TF.linear(x, w, b), approximate="tanh"), [x234, head, bias]),
    "packed_linear": (
        lambda x, v, w, b, c: F.packed_linear(x, [v, w], [b, c]),
        lambda x, v, w, b, c: torch.cat([TF.linear(x, v, b), TF.linear(x, w, c)], -1),
        [x234, head, head[::-1].copy(), bias, -bias],
    ),
    "causal_attention": (lambda x: F.causal_attention(x, 3), lambda x: their_attention(x, 3), [qkv]),
    "causal_attention, one head": (lambda x: F.causal_attention(x, 1), lambda x: their_attention(x, 1), [qkv]),
    "matmul": (lambda x, y: x @ y, torch.matmul, [x34, x34.T.copy()]),
    "matmul, batches": (lambda x, y: x @ y, torch.matmul, [x234, x243]),
    "matmul, batch with matrix": (lambda x, y: x @ y, torch.matmul, [x243, x34]),
    "matmul, matrix with batch": (lambda x, y: x @ y, torch.matmul, [x34, x243]),
    "matmul, batches broadcast": (lambda x, y: x @ y, torch.matmul, [x534[:, None], x243]),
    "matmul, batch of 1": (lambda x, y: x @ y, torch.matmul, [x234, x243[:1]]),
    "matmul, vectors": (lambda x, y: x @ y, torch.matmul, [x4, x34[1]]),
    "matmul, matrix with vector": (lambda x, y: x @ y, torch.matmul, [x34, x4]),
    "matmul, vector with batch": (lambda x, y: x @ y, torch.matmul, [x4, x243]),
    "matmul, batch with vector": (lambda x, y: x @ y, torch.matmul, [x234, x4]),
    "where": (lambda x, y: F.where(choice, x, y), lambda x, y: torch.where(T_choice, x, y), [x34, tied]),
    "where, broadcast": (lambda x, y: F.where(choice, x, y), lambda x, y: torch.where(T_choice, x, y), [x4, x31]),
    "maximum": (F.maximum, torch.maximum, [x34, x34[::-1].copy()]),
    "maximum, ties": (F.maximum, torch.maximum, [tied, tied_too]),
    "maximum, broadcast": (F.maximum, torch.maximum, [x4, x31]),
    "minimum, ties": (F.minimum, torch.minimum, [tied, tied_too]),
    "max, ties": (lambda x: x.max(axis=-1), lambda x: torch.amax(x, -1), [tied]),
    "max, ties, axis 0": (lambda x: x.max(axis=0, keepdims=True), lambda x: torch.amax(x, 0, True), [tied]),
    "max, ties, all": (lambda x: x.max(), torch.amax, [tied]),
    "max, axes": (lambda x: x.max(axis=(0, 2)), lambda x: torch.amax(x, (0, 2)), [x234]),
    "pow": (lambda x, y: x**y, torch.pow, [positive, x34]),
    "pow, broadcast": (lambda x, y: x**y, torch.pow, [positive, x31]),
    "pow, number below": (lambda y: 1.7**y, lambda y: torch.pow(1.7, y), [x34]),
    "pow, 0 below": (lambda x, y: x**y, torch.pow, [np.array([0.0, 0.0, 2.0]), np.array([2.0, 1.0, 0.0])]),
    **{
        f"pow {n}": (lambda x, n=n: x**n, lambda x, n=n: torch.pow(x, n), [x34 if n == int(n) else positive])
        for n in (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 2.7)
    },
    "pow 2 of 0": (lambda x: x**2, lambda x: torch.pow(x, 2), [tied]),
    "pow 0 of 0": (lambda x: x**0, lambda x: torch.pow(x, 0), [tied]),
    "divide": (lambda x, y: x / y, torch.div, [x34, x31]),
    "exp": (lambda x: x.exp(), torch.exp, [x34]),
    "log": (lambda x: x.log(), torch.log, [positive]),
    "sqrt": (lambda x: x.sqrt(), torch.sqrt, [positive]),
    "tanh": (lambda x: x.tanh(), torch.tanh, [wide]),
    "mean": (lambda x: x.mean(axis=(0, 2)), lambda x: x.mean((0, 2)), [x234]),
    "sum": (lambda x: x.sum(axis=1, keepdims=True), lambda x: x.sum(1, True), [x234]),
    "sum, dim": (lambda x: x.sum(dim=1, keepdim=True), lambda x: x.sum(dim=1, keepdim=True), [x234]),
    "mean, dims": (lambda x: x.mean(dim=(0, 2)), lambda x: x.mean(dim=(0, 2)), [x234]),
    "var": (lambda x: x.var(), lambda x: x.var(), [x234]),
    "var, dim": (
        lambda x: x.var(dim=-1, keepdim=True, unbiased=False),
        lambda x: x.var(dim=-1, keepdim=True, unbiased=False),
        [x234],
    ),
    "var, dims": (lambda x: x.var(dim=(0, 2)), lambda x: x.var(dim=(0, 2)), [x234]),
    "softmax, dim": (lambda x: F.softmax(x, dim=0), lambda x: torch.softmax(x, dim=0), [x234]),
    "log_softmax, dim": (lambda x: F.log_softmax(x, dim=1), lambda x: torch.log_softmax(x, dim=1), [x234]),
    "relu": (F.relu, torch.relu, [x234]),
    "relu, 0": (F.relu, torch.relu, [wide]),
    "masked_fill": (lambda x: x.masked_fill(choice, 2.5), lambda x: x.masked_fill(T_choice, 2.5), [x34]),
    "topk": (lambda x: F.topk(x, 2)[0], lambda x: torch.topk(x, 2)[0], [x234]),
    "topk, dim": (lambda x: F.topk(x, 3, dim=1)[0], lambda x: torch.topk(x, 3, dim=1)[0], [x243]),
    "view, flatten": (lambda x: x.view(2, 2, 6).flatten(0, 1), lambda x: x.view(2, 2, 6).flatten(0, 1), [x234]),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda x: x.unsqueeze(1), [x34]),
    "unsqueeze, last": (lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(-1), [x34]),
    "squeeze": (lambda x: x.squeeze(-1), lambda x: x.squeeze(-1), [x31]),
    "squeeze, longer": (lambda x: x.squeeze(0), lambda x: x.squeeze(0), [x31]),
    "squeeze, all": (lambda x: x.squeeze(), lambda x: x.squeeze(), [x31[None]]),
    "cat": (lambda x, y: F.cat((x, y), dim=1), lambda x, y: torch.cat((x, y), dim=1), [x34, x31]),
    "transpose": (lambda x: x.transpose(2, 0, 1), lambda x: x.permute(2, 0, 1), [x234]),
    "index with repeats": (lambda x: x[ids], lambda x: x[T_ids], [x534]),
    "concatenate": (lambda x, y: F.concatenate([x, y], 1), lambda x, y: torch.cat([x, y], 1), [x34, x31]),
    "stack": (lambda x, y: F.stack([x, y], 1), lambda x, y: torch.stack([x, y], 1), [x34, tied]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_has_pytorchs_value_and_gradients(name: str) -> None:
    ours, theirs, arrays = OPERATIONS[name]
    inputs = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    their_inputs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    y, their_y = ours(*inputs), theirs(*their_inputs)
    assert_close(y.data, their_y.detach().numpy(), OPERATION, "value")
    upstream = np.asarray(np.random.default_rng(12).standard_normal(y.shape))
    y.backward(upstream)
    their_y.backward(torch.from_numpy(upstream))
    largest = max(float(q.grad.norm()) for q in their_inputs)
    for i, (p, q) in enumerate(zip(inputs, their_inputs, strict=True)):
        error = relative_error(p.grad, q.grad.numpy(), scale=largest)
        assert error <= OPERATION, f"gradient of input {i}: relative error {error:.1e}"


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("x", [x234, np.array([[1.0, np.nan, 5.0], [2.0, 2.0, -np.inf]])], ids=["finite", "not finite"])
def test_argmax_and_the_indices_of_topk_are_pytorchs(x: npt.NDArray[Any], dim: int | None, keepdim: bool) -> None:
    theirs = torch.from_numpy(x)
    ours = Tensor(x).argmax(dim=dim, keepdim=keepdim)
    np.testing.assert_array_equal(ours, torch.argmax(theirs, dim=dim, keepdim=keepdim).numpy())
    if dim is not None:
        np.testing.assert_array_equal(F.topk(Tensor(x), 1, dim=dim)[1], torch.topk(theirs, 1, dim=dim)[1].numpy())
