"""Cost of a kernel call, from its arguments' shapes: floating-point operations and bytes moved.

FLOPs are those of the matrix products in the formula: recomputation is not counted, and a causal product counts only
its unmasked half.  Bytes are each input's and each output's, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..backend.contract import GradOut

Call: TypeAlias = tuple[Sequence[Any], Mapping[str, Any], Any]  # positional arguments, keyword arguments, result


class Cost(NamedTuple):
    """Cost of one call."""

    flops: int
    bytes: int


def cost_of(kernel: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Cost:
    """Compute the cost of a kernel call; a kernel without its own rule moves each of its arrays once."""
    flops = FLOPS[kernel](args, result) if kernel in FLOPS else 0
    return Cost(flops, BYTES.get(kernel, _each_once)((args, kwargs, result)))


def cost_of_new_arrays(args: Sequence[Any], result: Any) -> Cost:
    """Compute the cost of plain arithmetic: arguments are read and new arrays written; a view costs nothing."""
    results = result if isinstance(result, list | tuple) else [result]
    new = [r for r in results if getattr(r, "base", 0) is None and not any(r is a for a in args)]
    return Cost(0, bytes_in(list(args)) + bytes_in(new) if new else 0)


def _linear(args: Sequence[Any], y: Any) -> int:
    return _product(y.size, args[0].shape[-1])


def _linear_gelu(args: Sequence[Any], result: Any) -> int:
    return _linear(args, result[0])


def _linear_backward(args: Sequence[Any], dx: Any) -> int:
    dy, x, _, dweight, *_ = args
    return _product(dy.size, x.shape[-1]) * ((dweight is not None) + (dx is not None))


def _linear_gelu_backward(args: Sequence[Any], dx: Any) -> int:
    dy, x, weight, _, *outs = args
    return _linear_backward([dy, x, weight, *outs], dx)


def _packed_linear_backward(args: Sequence[Any], dx: Any) -> int:
    dy, x, _, dweights, *_ = args
    wanted = sum(w is not None for w in dweights) + len(dweights) * (dx is not None)
    return _product(dy.size // len(dweights), x.shape[-1]) * wanted


def _attention(args: Sequence[Any], result: Any) -> int:
    return 2 * _seen_product(args[0])  # the scores, the context


def _attention_backward(args: Sequence[Any], result: Any) -> int:
    return 4 * _seen_product(args[1])  # the gradients of V, the weights, Q and K


def _head(args: Sequence[Any], result: Any) -> int:
    x, weight, *_ = args
    return _product(x.size, len(weight))


def _head_backward(args: Sequence[Any], dx: Any) -> int:
    _, x, weight, _, _, _, dweight, *_ = args
    return _product(x.size, len(weight)) * ((dweight is not None) + (dx is not None))


def _seen_product(qkv: Any) -> int:
    """Count the FLOPs of one (T, T) by (T, D) product per head, causal half only."""
    B, T, C3 = qkv.shape
    return _product(B * T * (T + 1) // 2, C3 // 3)


def _product(size: int, inner: int) -> int:
    """Count the FLOPs of a product with `size` results, each a sum of `inner` terms."""
    return 2 * int(size) * int(inner)


FLOPS: dict[str, Callable[[Sequence[Any], Any], int]] = {
    "matrix_product": _linear,
    "linear": _linear,
    "linear_backward": _linear_backward,
    "packed_linear": _linear,
    "packed_linear_backward": _packed_linear_backward,
    "linear_gelu": _linear_gelu,
    "linear_gelu_backward": _linear_gelu_backward,
    "causal_attention": _attention,
    "causal_attention_backward": _attention_backward,
    "linear_cross_entropy": _head,
    "linear_cross_entropy_backward": _head_backward,
}


def bytes_in(thing: Any) -> int:
    """Count the bytes of an array or a GradOut (twice if it accumulates), or of all in a sequence."""
    if isinstance(thing, GradOut):
        return int(thing.array.nbytes) * (2 if thing.accumulate else 1)
    if isinstance(thing, list | tuple):
        return sum(map(bytes_in, thing))
    return int(getattr(thing, "nbytes", 0))


def _each_once(call: Call) -> int:
    args, kwargs, result = call
    return bytes_in(list(args)) + bytes_in(list(kwargs.values())) + bytes_in(result)


def _embedding(call: Call) -> int:
    return 2 * bytes_in(call[2])  # reads and writes the rows, not the whole table


def _adamw(call: Call) -> int:
    return 7 * bytes_in(call[0][0])  # reads the parameter, its gradient and two means; writes all but the gradient


BYTES: dict[str, Callable[[Call], int]] = {"embedding": _embedding, "adamw": _adamw}
