"""PyTorch's operations by their names in its own tests, written in ours; and what of them is not offered, and why."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

NOT_OFFERED = {
    "dtype": "results have the dtype of NumPy's promotion; .astype is NumPy's",
    "out": "no operation writes into a given tensor",
    "alpha": "write x + alpha * y",
    "rounding_mode": "floor and truncated division have no useful gradient",
    "erf": "the exact GELU: GPT-2 and the book use the tanh form",
    "normalized_shape": "layer_norm is over the last axis alone",
    "no scale or shift": "layer_norm always has both",
    "weight": "no class weights in the loss",
    "ignore_index": "no target is passed over in the loss",
    "label_smoothing": "no smoothing in the loss",
    "reduction": "the loss is the mean",
    "probabilities": "targets are ids",
    "K dimensions": "logits are (N, V), or (V,) for one",
    "max_norm": "an embedding's rows are not renormalised",
    "padding_idx": "no row of an embedding is kept from learning",
    "sparse": "an embedding's gradient is dense",
    "scale_grad_by_freq": "an embedding's gradient is the sum",
    "cross attention": "a query of every token, keys and values of one size",
    "not causal": "attention is causal",
    "scale": "scores are divided by sqrt(D)",
    "attn_mask": "attention has no other mask",
    "dropout_p": "the mask is drawn by the caller",
    "enable_gqa": "every query head has its own keys",
    "0-d concatenation": "NumPy concatenates arrays that have axes",
    "legacy empty": "an empty 1-d array beside others of more axes is not passed over",
    "unequal sections": "split cuts into equal sections",
    "argmax too": "max along an axis gives no indices",
    "axes of 0-d": "swapaxes is NumPy's: an array of no axes has none to swap",
    "default dtype": "two plain numbers make a float64, as in NumPy, and not a float32",
    "plain self": "of a plain number PyTorch has no method either",
    "plain numbers": "of two plain numbers, Python's own operators",
}


class NotOfferedError(Exception):
    """A sample asks for what ours does not offer; the argument is a key of NOT_OFFERED."""


def only(**given: Any) -> None:
    """Pass over a sample that gives any of these arguments a value."""
    for reason, value in given.items():
        if value is not None and value is not False:
            raise NotOfferedError(reason)


# PyTorch's arguments -> ours


def axes(dim: Any) -> Any:
    """PyTorch reduces along all axes where `dim` is empty; NumPy, and we, along none."""
    return None if isinstance(dim, Sequence) and not dim else tuple(dim) if isinstance(dim, list) else dim


def binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def ours(x: Any, y: Any, *, alpha: Any = None, rounding_mode: Any = None, out: Any = None) -> Any:
        only(alpha=None if alpha == 1 else alpha, rounding_mode=rounding_mode, out=out)
        return function(x, y)

    return ours


def reflected(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return binary(lambda x, y: function(y, x))


def reduction(name: str) -> Callable[..., Any]:
    def ours(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        only(dtype=dtype)
        return getattr(x, name)(axes(dim), keepdim)

    return ours


def largest(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Tensor):
        return F.maximum(x, args[0])
    only(**{"argmax too": bool(args or kwargs)})
    return x.max()


def smallest(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    if not args or not isinstance(args[0], Tensor):
        raise NotOfferedError("argmax too")
    return F.minimum(x, args[0])


def softmax_of(function: Callable[..., Any]) -> Callable[..., Any]:
    def ours(x: Tensor, dim: int, dtype: Any = None) -> Any:
        only(dtype=dtype)
        return function(x, dim)

    return ours


def gelu(x: Tensor, *, approximate: str = "none") -> Any:
    if approximate not in ("none", "tanh"):
        raise ValueError(approximate)
    only(erf=approximate == "none")
    return F.gelu(x)


def layer_norm(x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    only(normalized_shape=len(normalized_shape) != 1, **{"no scale or shift": weight is None or bias is None})
    return F.layer_norm(x, weight, bias, eps)


def embedding(
    weight: Any, ids: Any, *, padding_idx: Any = None, max_norm: Any = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Any:  # fmt: skip
    only(
        sparse=sparse,
        padding_idx=padding_idx is not None,
        max_norm=max_norm is not None,
        scale_grad_by_freq=scale_grad_by_freq,
    )
    return F.embedding(ids, weight)


def cross_entropy(
    logits: Any, target: Any, *, weight: Any = None, ignore_index: Any = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    only(weight=weight is not None, ignore_index=ignore_index != -100, reduction=reduction != "mean")
    only(label_smoothing=label_smoothing != 0, probabilities=isinstance(target, Tensor))
    only(**{"K dimensions": logits.ndim > 2})
    return F.cross_entropy(logits, target)


def linear_cross_entropy(
    x: Any, linear_weight: Any, target: Any, *, linear_bias: Any = None, weight: Any = None, ignore_index: Any = -100,
    reduction: str = "mean", label_smoothing: float = 0.0, **options: Any,
) -> Any:  # fmt: skip
    only(weight=weight is not None or linear_bias is not None, ignore_index=ignore_index != -100)
    only(reduction=reduction != "mean", label_smoothing=label_smoothing != 0, probabilities=isinstance(target, Tensor))
    only(**{"K dimensions": x.ndim != 2 or linear_weight.ndim != 2})
    return F.linear_cross_entropy(x, linear_weight, target)


def attention(
    q: Any, k: Any, v: Any, *, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: Any = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    only(attn_mask=attn_mask is not None, dropout_p=dropout_p != 0, enable_gqa=enable_gqa, scale=scale is not None)
    T, D = q.shape[-2:]
    fewer_keys = k.shape[-2] < T or k.shape[:-2] != q.shape[:-2]
    only(**{"not causal": not is_causal, "cross attention": fewer_keys or v.shape[-1] != D})
    heads = [t[..., :T, :].reshape(-1, T, D) for t in (q, k, v)]  # no query sees the keys from T on
    return F.causal_attention(F.concatenate(heads, axis=-1), 1).reshape(q.shape)


def transpose(x: Tensor, a: int, b: int) -> Any:
    only(**{"axes of 0-d": not x.ndim})
    return x.swapaxes(a, b)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Any:
    return x.flatten(start_dim, end_dim)


def cat(tensors: Sequence[Any], dim: int = 0, *, out: Any = None) -> Any:
    only(out=out is not None)
    only(**{"legacy empty": len({getattr(t, "ndim", None) for t in tensors}) > 1})
    return F.concatenate(tensors, axis=dim)


def split(x: Tensor, size: Any, dim: int = 0) -> Any:
    if not isinstance(size, int) or size < 1 or x.shape[dim] % size or x.shape[dim] == 0:
        raise NotOfferedError("unequal sections")
    return F.split(x, x.shape[dim] // size, axis=dim)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> Any:
    if x.shape[dim] == 0 or x.shape[dim] % chunks:
        raise NotOfferedError("unequal sections")
    return F.split(x, chunks, axis=dim)


def where(x: Any, condition: Any, y: Any) -> Any:  # OpInfo calls the operation with its first two arguments exchanged
    only(**{"default dtype": not isinstance(x, Tensor) and not isinstance(y, Tensor)})
    return F.where(condition, x, y)


def shape_of(*shape: Any) -> Any:
    return shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape


def expand(x: Tensor, *sizes: Any) -> Any:
    """-1 is a length that stays; NumPy's broadcast_to, and ours, takes lengths alone."""
    sizes = shape_of(*sizes)
    kept = (None,) * (len(sizes) - x.ndim) + x.shape
    return x.broadcast_to(*(n if size == -1 else size for size, n in zip(sizes, kept, strict=True)))


OURS: dict[str, Callable[..., Any]] = {
    "add": binary(operator.add),
    "__radd__": reflected(operator.add),
    "sub": binary(operator.sub),
    "__rsub__": reflected(operator.sub),
    "rsub": reflected(operator.sub),
    "mul": binary(operator.mul),
    "__rmul__": reflected(operator.mul),
    "div": binary(operator.truediv),
    "true_divide": binary(operator.truediv),
    "__rdiv__": reflected(operator.truediv),
    "pow": binary(operator.pow),
    "float_power": binary(operator.pow),
    "__rpow__": reflected(operator.pow),
    "neg": operator.neg,
    "exp": Tensor.exp,
    "log": Tensor.log,
    "sqrt": Tensor.sqrt,
    "tanh": Tensor.tanh,
    "square": lambda x: x**2,
    "reciprocal": lambda x: 1 / x,
    "eq": binary(operator.eq),
    "ne": binary(operator.ne),
    "lt": binary(operator.lt),
    "le": binary(operator.le),
    "gt": binary(operator.gt),
    "ge": binary(operator.ge),
    "maximum": F.maximum,
    "minimum": F.minimum,
    "max": largest,
    "min": smallest,
    "amax": reduction("max"),
    "sum": reduction("sum"),
    "mean": reduction("mean"),
    "logsumexp": reduction("logsumexp"),
    "softmax": softmax_of(F.softmax),
    "log_softmax": softmax_of(F.log_softmax),
    "matmul": binary(operator.matmul),
    "__rmatmul__": reflected(operator.matmul),
    "mm": operator.matmul,
    "bmm": operator.matmul,
    "mv": operator.matmul,
    "dot": operator.matmul,
    "nn.functional.linear": F.linear,
    "nn.functional.gelu": gelu,
    "nn.functional.layer_norm": layer_norm,
    "nn.functional.embedding": embedding,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.linear_cross_entropy": linear_cross_entropy,
    "nn.functional.scaled_dot_product_attention": attention,
    "where": where,
    "reshape": lambda x, *shape: x.reshape(shape_of(*shape)),
    "view": lambda x, *shape: x.reshape(shape_of(*shape)),
    "reshape_as": lambda x, other: x.reshape(other.shape),
    "view_as": lambda x, other: x.reshape(other.shape),
    "ravel": lambda x: x.flatten(),
    "flatten": flatten,
    "transpose": transpose,
    "permute": lambda x, *dims: x.transpose(shape_of(*dims)),
    "t": lambda x: x.T,
    "T": lambda x: x.T,
    "broadcast_to": lambda x, *shape: x.broadcast_to(shape_of(*shape)),
    "expand": expand,
    "expand_as": lambda x, other: x.broadcast_to(other.shape),
    "__getitem__": lambda x, index: x[index],
    "cat": cat,
    "stack": lambda tensors, dim=0: F.stack(tensors, axis=dim),
    "split": split,
    "chunk": chunk,
    "unbind": lambda x, dim=0: list(x) if dim == 0 else list(x.swapaxes(0, dim)),
}

ACCEPTED: dict[tuple[str, str], str] = {  # (operation, PyTorch's error): why we take it
    ("maximum", ""): "a plain number for an operand, as everywhere",
    ("minimum", ""): "a plain number for an operand, as everywhere",
    ("max", ""): "a plain number for an operand, as everywhere",
    ("min", ""): "a plain number for an operand, as everywhere",
    ("t", "expects a tensor with <= 2"): ".T reverses all axes, as NumPy's does",
}
