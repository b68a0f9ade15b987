"""The head's cross-entropy, in place: logits, probabilities and their gradient share one array."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut, Ints
from .blocks import blocks, for_each_block, rows_per_block
from .matmul import Product, linear, multiply, product_into

CHUNK_ELEMENTS = 1 << 25  # logits in memory at once: 128 MiB in float32


def linear_cross_entropy(
    x: Array, weight: Array, targets: Ints, want_gradient: bool
) -> tuple[Array, Array, Array | None]:
    """Keep the first chunk's gradient; backward recomputes the logits of the others."""
    if not len(targets):
        raise ValueError("cross-entropy: no targets; give at least one")
    dtype = np.result_type(x.dtype, weight.dtype)
    losses, log_sum_exp, kept = np.empty(len(x), dtype=dtype), np.empty((len(x), 1), dtype=dtype), None
    for chunk in blocks(len(x), rows_per_block(len(weight), CHUNK_ELEMENTS)):
        logits = linear(x[chunk], weight, None)
        keep = want_gradient and kept is None
        _softmax(logits, targets[chunk], losses[chunk], log_sum_exp[chunk], 1 / len(x) if keep else None)
        kept = logits if keep else kept
        del logits  # free it before the next chunk is allocated
    loss = losses.sum() / len(losses)
    return loss, log_sum_exp, kept


def linear_cross_entropy_backward(
    dloss: Array,
    x: Array,
    weight: Array,
    targets: Ints,
    log_sum_exp: Array,
    kept: Array | None,
    dweight: GradOut | None,
    want_dx: bool,
) -> Array | None:
    dx = np.empty(x.shape, dtype=x.dtype) if want_dx else None
    for chunk in blocks(len(x), rows_per_block(len(weight), CHUNK_ELEMENTS)):
        if chunk.start == 0 and kept is not None:
            dlogits = kept
        else:
            dlogits = linear(x[chunk], weight, None)
            _gradient(dlogits, targets[chunk], log_sum_exp[chunk], 1 / len(x))
        products = [] if dx is None else [Product(dlogits, weight, dx[chunk])]
        if dweight is not None:
            products.append(product_into(dweight, dlogits.T, x[chunk] * dloss))
            dweight = GradOut(dweight.array, accumulate=True)
        multiply(products)
        del dlogits, products
    if dx is not None:
        dx *= dloss
    return dx


def _softmax(logits: Array, targets: Ints, losses: Array, log_sum_exp: Array, share: float | None) -> None:
    """Fill losses (N,) and log_sum_exp (N, 1); if share is given, turn logits into their gradient times share."""

    def body(block: slice) -> None:
        rows, at = logits[block], (np.arange(block.stop - block.start), targets[block])
        largest = rows.real.max(axis=-1, keepdims=True)
        rows -= largest
        of_target = rows[at]
        np.exp(rows, out=rows)
        total = rows.sum(axis=-1, keepdims=True)
        logarithm = np.log(total)
        losses[block] = logarithm[:, 0] - of_target
        np.add(logarithm, largest, out=log_sum_exp[block])
        if share is not None:
            rows *= share / total
            rows[at] -= share

    for_each_block(len(logits), 14, body, logits.shape[1])


def _gradient(logits: Array, targets: Ints, log_sum_exp: Array, share: float) -> None:
    """Turn logits into their gradient times share, given log_sum_exp."""

    def body(block: slice) -> None:
        rows = logits[block]
        rows -= log_sum_exp[block]
        np.exp(rows, out=rows)
        rows *= share
        rows[np.arange(block.stop - block.start), targets[block]] -= share

    for_each_block(len(logits), 8, body, logits.shape[1])
