"""The steps of random programs, in this package's operations.

Those that are not defined everywhere, or steep, are of arguments that are safe: log(x * x + 1).
"""

from __future__ import annotations

from typing import Any

from nanograd_gpt.autograd import Function
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor


def through_no_grad(x: Tensor) -> Tensor:
    with no_grad():
        y = x.tanh() * 2
    return y


def split_and_swapped(x: Tensor, axis: int) -> Tensor:
    """The two halves exchanged, one of them used twice."""
    first, second = F.split(x, 2, axis)
    return F.concatenate([second * first, first], axis)


def from_rows(x: Tensor) -> Tensor:
    """The rows of x, weighted, by iteration; x needs one at least."""
    total: Any = 0.0
    for i, row in enumerate(x):
        total = row * (i + 1) + total
    return total


OURS = {
    "neg": lambda x: -x,
    "exp": lambda x: x.tanh().exp(),
    "log": lambda x: (x * x + 1).log(),
    "sqrt": lambda x: (x * x + 0.5).sqrt(),
    "tanh": lambda x: x.tanh(),
    "gelu": lambda x: F.gelu(x),
    "softmax": lambda x, axis: F.softmax(x, axis),
    "log_softmax": lambda x, axis: F.log_softmax(x, axis),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 1),
    "pow": lambda x, y: (x * x + 0.5) ** y.tanh(),
    "number": lambda x, before, after, power: before - x * after + x**power,
    "where": lambda x, y, mask: F.where(mask, x, y),
    "masked_fill": lambda x, mask, value: x.masked_fill(mask, value),
    "maximum": lambda x, y: F.maximum(x, y),
    "minimum": lambda x, y: F.minimum(x, y),
    "sum": lambda x, axis, keepdims: x.sum(axis, keepdims),
    "mean": lambda x, axis, keepdims: x.mean(axis, keepdims),
    "max": lambda x, axis, keepdims: x.max(axis, keepdims),
    "logsumexp": lambda x, axis, keepdims: x.logsumexp(axis, keepdims),
    "var": lambda x, axis, keepdims: x.var(axis, keepdims=keepdims, unbiased=False),
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.transpose(tuple(axes)),
    "broadcast_to": lambda x, shape: x.broadcast_to(shape),
    "index": lambda x, index: x[index],
    "concatenate": lambda *tensors, axis: F.concatenate(tensors, axis),
    "stack": lambda *tensors, axis: F.stack(tensors, axis),
    "split": split_and_swapped,
    "rows": from_rows,
    "matmul": lambda x, y: x @ y,
    "linear": lambda x, weight, *bias: F.linear(x, weight, *bias),
    "linear_gelu": lambda x, weight, *bias: F.linear_gelu(x, weight, *bias),
    "packed_linear": lambda x, *weights: F.packed_linear(x, weights),
    "layer_norm": lambda x, scale, shift: F.layer_norm(x, scale, shift, 0.1),
    "attention": lambda x, n_heads: F.causal_attention(x, n_heads),
    "embedding": lambda weight, ids: F.embedding(ids, weight),
    "dropout": lambda x, keep: F.dropout(x, keep, 0.25),
    "dropout_add": lambda x, residual, keep: F.dropout_add(x, residual, keep, 0.25),
    "cross_entropy": lambda logits, targets: F.cross_entropy(logits, targets),
    "linear_cross_entropy": lambda x, weight, targets: F.linear_cross_entropy(x, weight, targets),
    "detach": lambda x: x.detach(),
    "no_grad": through_no_grad,
}


def ancestors(root: Any) -> set[int]:
    """The identities of the recorded operations that a node was computed with, its own among them."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function) and id(node) not in seen:
            seen.add(id(node))
            waiting += node.parents
    return seen
