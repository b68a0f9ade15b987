"""Oracles of the operations: the textbook's formulas on primitive operations, in float64."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

EPS32 = float(np.finfo(np.float32).eps)

Formula = Callable[..., Tensor]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def relative_error(values: Array, exact: Array) -> float:
    """The length of the difference against the length of the exact result."""
    return float(np.linalg.norm(np.ravel(values - exact)) / np.linalg.norm(np.ravel(exact)))


def check_value_and_gradients(formula: Formula, oracle: Formula, *inputs: Array) -> None:
    """See that two functions have the same value, and the same gradient of every input, at random output weights."""
    results = []
    for function in (formula, oracle):
        tensors = [Tensor(a.copy(), requires_grad=True) for a in inputs]
        y = function(*tensors)
        y.backward(normal(*y.shape, seed=1))
        results.append([y.data, *(t.grad for t in tensors)])
    for what, (mine, theirs) in enumerate(zip(*results, strict=True)):
        assert mine.shape == theirs.shape
        error = relative_error(mine, theirs)
        assert error <= 1e-13, f"{f'gradient {what - 1}' if what else 'value'}: relative error {error:.1e}"


def check_float32(formula: Formula, bound: float, *inputs: Array) -> None:
    """See that float32 and float64 agree in value and in every gradient, norm against norm."""
    results = []
    for dtype in (np.float32, np.float64):
        tensors = [Tensor(a.astype(np.float32).astype(dtype), requires_grad=True) for a in inputs]
        y = formula(*tensors)
        y.backward(normal(*y.shape, seed=1).astype(np.float32).astype(dtype))
        results.append([y.data, *(t.grad for t in tensors)])
    for what, (narrow, wide) in enumerate(zip(*results, strict=True)):
        assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
        error = relative_error(narrow, wide)
        assert error <= bound, f"{f'gradient {what - 1}' if what else 'value'}: relative error {error:.1e}"


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + ((2 / pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    e = (x - x.detach().max(axis, keepdims=True)).exp()
    return e / e.sum(axis, keepdims=True)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred / (variance + eps).sqrt() * scale + shift


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


def causal_attention(qkv: Tensor, n_heads: int, keep: Any = None, rate: float = 0.0) -> Tensor:
    """As chapter 3 has it, with the mask of ones above the diagonal."""
    B, T, C3 = qkv.shape
    q, k, v = (t.reshape(B, T, n_heads, -1).swapaxes(1, 2) for t in F.split(qkv, 3, axis=-1))
    scores = q @ k.swapaxes(2, 3)
    mask = np.triu(np.ones((T, T)), 1) == 1
    weights = softmax(F.where(mask, -np.inf, scores) / q.shape[-1] ** 0.5)
    if keep is not None:
        weights = weights * (keep / (1 - rate))
    return (weights @ v).swapaxes(1, 2).reshape(B, T, C3 // 3)


def cross_entropy(logits: Tensor, targets: Array) -> Tensor:
    probabilities = softmax(logits)
    return -probabilities[np.arange(len(targets)), targets].log().mean()
