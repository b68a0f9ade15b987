"""The steps of random programs in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from nanograd_gpt.backend.contract import Array

from .program import Program, evaluated, numbers


def from_array(a: Array) -> Any:
    return torch.from_numpy(a.copy())


def axes_of(x: Any, axis: Any) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


def reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over NumPy's axes; PyTorch leaves a number, of which all are none, as it is."""
    return lambda x, axis, keepdims: function(x, dim=axes_of(x, axis), keepdim=keepdims) if x.ndim else x + 0


def variance(x: Any, axis: Any, keepdims: bool) -> Any:
    return torch.var(x, dim=axes_of(x, axis), keepdim=keepdims, correction=0) if x.ndim else x * 0


def indexed(x: Any, index: Any) -> Any:
    """x[index]; PyTorch has no slices backwards, and wants its own arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    axis, own = 0, []
    for part in parts:
        if isinstance(part, slice) and part.step is not None and part.step < 0:
            x, part = x.flip(axis), slice(None, None, -part.step)
        axis += part is not None
        own.append(torch.from_numpy(part) if hasattr(part, "dtype") else part)
    return x[tuple(own)]


def split_and_swapped(x: Any, axis: int) -> Any:
    first, second = torch.chunk(x, 2, axis)
    return torch.cat([second * first, first], axis)


def from_rows(x: Any) -> Any:
    return sum(row * (i + 1) for i, row in enumerate(x))


def attention(x: Any, n_heads: int) -> Any:
    """Queries, keys and values (B, T, 3 C)."""
    B, T, width = x.shape
    heads = x.reshape(B, T, 3, n_heads, width // 3 // n_heads).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).reshape(B, T, width // 3)


def dropped(x: Any, keep: Array) -> Any:
    return torch.where(torch.from_numpy(keep), x / 0.75, 0.0)


def gelu(x: Any) -> Any:
    return F.gelu(x, approximate="tanh")


def through_no_grad(x: Any) -> Any:
    with torch.no_grad():
        return x.tanh() * 2


THEIRS: dict[str, Callable[..., Any]] = {
    "neg": lambda x: -x,
    "exp": lambda x: x.tanh().exp(),
    "log": lambda x: (x * x + 1).log(),
    "sqrt": lambda x: (x * x + 0.5).sqrt(),
    "tanh": lambda x: x.tanh(),
    "gelu": gelu,
    "softmax": lambda x, axis: F.softmax(x, axis),
    "log_softmax": lambda x, axis: F.log_softmax(x, axis),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 1),
    "pow": lambda x, y: (x * x + 0.5) ** y.tanh(),
    "number": lambda x, before, after, power: before - x * after + x**power,
    "where": lambda x, y, mask: torch.where(torch.from_numpy(mask), x, y),
    "masked_fill": lambda x, mask, value: torch.where(torch.from_numpy(mask), value, x),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "sum": reduced(torch.sum),
    "mean": reduced(torch.mean),
    "max": reduced(torch.amax),
    "logsumexp": reduced(torch.logsumexp),
    "var": variance,
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.permute(axes),
    "broadcast_to": lambda x, shape: x.broadcast_to(shape),
    "index": indexed,
    "concatenate": lambda *tensors, axis: torch.cat(tensors, axis),
    "stack": lambda *tensors, axis: torch.stack(tensors, axis),
    "split": split_and_swapped,
    "rows": from_rows,
    "matmul": lambda x, y: x @ y,
    "linear": lambda x, weight, *bias: F.linear(x, weight, *bias),
    "linear_gelu": lambda x, weight, *bias: gelu(F.linear(x, weight, *bias)),
    "packed_linear": lambda x, *weights: torch.cat([F.linear(x, weight) for weight in weights], -1),
    "layer_norm": lambda x, scale, shift: F.layer_norm(x, x.shape[-1:], scale, shift, 0.1),
    "attention": attention,
    "embedding": lambda weight, ids: F.embedding(torch.from_numpy(ids), weight),
    "dropout": dropped,
    "dropout_add": lambda x, residual, keep: dropped(x, keep) + residual,
    "cross_entropy": lambda logits, targets: F.cross_entropy(logits, torch.from_numpy(targets)),
    "linear_cross_entropy": lambda x, weight, targets: F.cross_entropy(F.linear(x, weight), torch.from_numpy(targets)),
    "detach": lambda x: x.detach(),
    "no_grad": through_no_grad,
}


def values_and_gradients(program: Program) -> tuple[list[Array], dict[int, Array | None]]:
    """Every value of a program, and the gradients of its leaves."""
    leaves = {i: from_array(leaf.array()).requires_grad_(leaf.requires_grad) for i, leaf in program.leaves().items()}
    values = evaluated(program, THEIRS, leaves)
    total = torch.zeros((), dtype=torch.float64)
    for root in program.roots:
        value = values[root.value]
        total = total + (value * torch.from_numpy(numbers(tuple(value.shape), root.seed))).sum()
    if total.requires_grad:
        total.backward()
    gradients = {i: None if leaf.grad is None else leaf.grad.numpy() for i, leaf in leaves.items()}
    return [value.detach().numpy() for value in values], gradients
