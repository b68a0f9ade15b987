"""Functions on Tensors: the public interface of ops/."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..backend.contract import Axis, Bools, Ints, Keep
from ..backend.select import in_float32, kernels_of
from ..ops import activation, attention, elementwise, loss, matmul, norm, reduce, shape
from ..ops import dropout as dropout_op
from ..ops import embedding as embedding_op
from ..ops.axes import takes_dim
from ..pytorch_names import CROSS_ENTROPY, FUNCTIONAL, GELU, missing_name, without_keywords
from ..tensor import Operand, Tensor, apply, as_tensor
from .token_ids import TokenIds, as_ids


def linear(x: Operand, weight: Operand, bias: Operand | None = None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,)  ->  x W^T + b (..., O)"""
    return apply(matmul.Linear, x, weight, *([] if bias is None else [bias]))


def linear_gelu(x: Operand, weight: Operand, bias: Operand | None = None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,)  ->  GELU(x W^T + b) (..., O)"""
    return apply(matmul.LinearGELU, x, weight, *([] if bias is None else [bias]))


def packed_linear(x: Operand, weights: Sequence[Operand], biases: Sequence[Operand] = ()) -> Tensor:
    """x (..., I), K weights (O, I), K biases (O,) or none  ->  the K linear layers' results joined (..., K * O)"""
    return apply(matmul.PackedLinear, x, *weights, *biases, n=len(weights))


def layer_norm(x: Operand, scale: Operand, shift: Operand, eps: float = 1e-5) -> Tensor:
    """x (..., C), scale (C,), shift (C,)  ->  (..., C), normalised over the last axis"""
    return apply(norm.LayerNorm, x, scale, shift, eps=eps)


@without_keywords(GELU)
def gelu(x: Operand) -> Tensor:
    """x (...)  ->  (...); the tanh form, as in GPT-2"""
    return apply(activation.GELU, x)


def relu(x: Operand) -> Tensor:
    """x (...)  ->  (...), 0 in place of what is negative; at 0 the gradient is 0, as in PyTorch"""
    x = as_tensor(x, "relu")
    return x.masked_fill(x <= 0, 0)


@takes_dim
def softmax(x: Operand, axis: int = -1, *, dim: int = -1) -> Tensor:
    """x (...)  ->  (...), positive and summing to 1 along axis"""
    return apply(activation.Softmax, x, axis=axis)


@takes_dim
def log_softmax(x: Operand, axis: int = -1, *, dim: int = -1) -> Tensor:
    """x (...)  ->  log(softmax(x)) (...), without computing the softmax"""
    return apply(activation.LogSoftmax, x, axis=axis)


@takes_dim
def logsumexp(
    x: Operand, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False
) -> Tensor:
    """x (...)  ->  log(sum(exp(x))) along axis, safe for large x"""
    return apply(reduce.LogSumExp, x, axis=axis, keepdims=keepdims)


def causal_attention(qkv: Operand, n_heads: int, keep: Keep | None = None, rate: float = 0.0) -> Tensor:
    """qkv (B, T, 3C): queries, keys, values joined; keep (B, H, T, T): dropout's mask or None  ->  (B, T, C)"""
    return apply(attention.CausalAttention, qkv, n_heads=n_heads, keep=keep, rate=rate)


def embedding(ids: TokenIds, weight: Operand, *, checked: bool = False) -> Tensor:
    """ids (...) in 0 .. V - 1, weight (V, C)  ->  (..., C); checked=True skips the check of the ids."""
    return apply(embedding_op.Embedding, weight, ids=as_ids(ids), checked=checked)


def dropout(x: Operand, keep: Keep, rate: float) -> Tensor:
    """x (...), keep (...)  ->  x / (1 - rate) where kept, else 0"""
    return apply(dropout_op.Dropout, x, keep=keep, rate=rate)


def dropout_add(x: Operand, residual: Operand, keep: Keep, rate: float) -> Tensor:
    """x (...), residual (...), keep (...)  ->  dropout(x) + residual (...)"""
    return apply(dropout_op.DropoutAdd, x, residual, keep=keep, rate=rate)


@without_keywords(CROSS_ENTROPY)
def cross_entropy(logits: Operand, targets: TokenIds) -> Tensor:
    """logits (N, V), targets (N,)  ->  minus the mean log probability of the targets, in nats ()"""
    return apply(loss.CrossEntropy, logits, targets=as_ids(targets))


def linear_cross_entropy(x: Operand, weight: Operand, targets: TokenIds, *, checked: bool = False) -> Tensor:
    """x (N, C), weight (V, C), targets (N,)  ->  cross_entropy(linear(x, weight), targets) (), in little memory

    checked=True skips the check of the targets.
    """
    return apply(loss.LinearCrossEntropy, x, weight, targets=as_ids(targets), checked=checked)


def where(condition: Tensor | Bools | bool, x: Operand, y: Operand) -> Tensor:
    """Select x where the condition holds, else y; all three broadcast, and x and y may both be plain numbers.

    Raises TypeError for arrays on different devices, and if none of the three is an array.
    """
    if isinstance(condition, Tensor):
        condition = condition.data
    return apply(elementwise.Where, x, y, condition=condition)


def maximum(x: Operand, y: Operand) -> Tensor:
    """Elementwise maximum; ties share the gradient equally, and nan propagates."""
    return apply(elementwise.Maximum, x, y)


def minimum(x: Operand, y: Operand) -> Tensor:
    """Elementwise minimum; ties share the gradient equally, and nan propagates."""
    return apply(elementwise.Minimum, x, y)


@takes_dim
def concatenate(tensors: Sequence[Operand], axis: int = 0, *, dim: int = 0) -> Tensor:
    """Join along an existing axis.  Raises ValueError for no tensors."""
    if not len(tensors):
        raise ValueError("concatenate: there are no tensors to join")
    return apply(shape.Concatenate, *tensors, axis=axis)


cat = concatenate  # PyTorch's name


@takes_dim
def stack(tensors: Sequence[Operand], axis: int = 0, *, dim: int = 0) -> Tensor:
    """Join along a new axis.  Raises ValueError for no tensors."""
    if not len(tensors):
        raise ValueError("stack: there are no tensors to join")
    return apply(shape.Stack, *tensors, axis=axis)


@takes_dim
def split(x: Operand, sections: int, axis: int = 0, *, dim: int = 0) -> list[Tensor]:
    """Split into a number of equal sections along an axis, as numpy.split does.

    PyTorch's split(x, size) is split(x, length // size).  Raises ValueError if the length is not a multiple.
    """
    x = as_tensor(x, "split")
    length = x.shape[normalize_axis_index(axis, x.ndim)]
    if not isinstance(sections, int | np.integer):
        raise TypeError(f"split: sections is {sections!r}, expected the number of equal sections")
    if sections < 1 or length % sections:
        raise ValueError(f"split: axis {axis} of shape {x.shape} cannot be cut into {sections} equal sections")
    before, step = (slice(None),) * (axis % x.ndim), length // sections
    return [x[(*before, slice(i, i + step))] for i in range(0, length, step)]


@takes_dim
def topk(x: Operand, k: int, axis: int = -1, *, dim: int = -1) -> tuple[Tensor, Ints]:
    """The k largest along an axis, in falling order, and their indices there; of equal ones the first come first.

    nan counts as the largest, as in PyTorch.  Raises ValueError for a k that is not 0 .. the axis's length.
    """
    x = as_tensor(x, "topk")
    axis = normalize_axis_index(axis, x.ndim)
    length = x.shape[axis]
    if not 0 <= k <= length:
        raise ValueError(f"topk: k = {k} is not allowed; choose 0 .. {length}, the length of axis {axis}")
    xp, numbers = kernels_of(x.data).xp, in_float32(x.data)
    rising = xp.argsort(xp.flip(numbers, axis), axis=axis, kind="stable")  # flipped twice: ties keep their order
    indices: Ints = length - 1 - xp.flip(rising, axis)[(slice(None),) * axis + (slice(k),)]
    places = [xp.arange(n).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, n in enumerate(x.shape)]
    return x[(*places[:axis], indices, *places[axis + 1 :])], indices


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        raise missing_name(sys.modules[__name__], name, FUNCTIONAL)
