"""The head's cross-entropy in place: logits become probabilities, and those their gradient, in the same memory."""

from __future__ import annotations

import numpy as np

from ..contract import Array, GradOut, Ints
from .blocks import blocks, for_each_row_block
from .matmul import gemm, gemm_into, matmul

LOGITS = 1 << 25  # held at a time: 128 MiB in float32


def linear_cross_entropy(
    x: Array, weight: Array, targets: Ints, want_gradient: bool
) -> tuple[Array, Array, Array | None]:
    """Gradients are kept of as many rows as may be held at a time; backward makes the others' logits again."""
    if not len(targets):
        raise ValueError("cross-entropy: there are no targets to take a mean over")
    dtype = np.result_type(x.dtype, weight.dtype)
    losses, log_sum_exp, kept = np.empty(len(x), dtype=dtype), np.empty((len(x), 1), dtype=dtype), None
    for part in _parts(x, weight):
        logits = matmul(x[part], weight.T)
        keep = want_gradient and kept is None
        _softmax(logits, targets[part], losses[part], log_sum_exp[part], 1 / len(x) if keep else None)
        kept = logits if keep else kept
        del logits  # before the next ones come
    loss: Array = losses.sum() / len(losses)
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
    dx = np.empty_like(x) if want_dx else None
    for part in _parts(x, weight):
        if part.start == 0 and kept is not None:
            dlogits = kept
        else:
            dlogits = matmul(x[part], weight.T)
            _gradient(dlogits, targets[part], log_sum_exp[part], 1 / len(x))
        if dx is not None:
            gemm(dlogits, weight, dx[part])
        if dweight is not None:
            gemm_into(dweight, dlogits.T, x[part] * dloss)
            dweight = GradOut(dweight.array, accumulate=True)
        del dlogits
    if dx is not None:
        dx *= dloss
    return dx


def _parts(x: Array, weight: Array) -> list[slice]:
    """Rows of x in slices whose logits may be held at a time."""
    return blocks(len(x), max(1, LOGITS // len(weight)))


def _softmax(logits: Array, targets: Ints, losses: Array, log_sum_exp: Array, parallel_for: float | None) -> None:
    """Fill losses (N,) and log_sum_exp (N, 1); the logits become their gradient times a share, if one is given."""

    def body(part: slice) -> None:
        row, at = logits[part], (np.arange(part.stop - part.start), targets[part])
        largest = row.real.max(axis=-1, keepdims=True)
        row -= largest
        of_target = row[at]
        np.exp(row, out=row)
        total = row.sum(axis=-1, keepdims=True)
        logarithm = np.log(total)
        losses[part] = logarithm[:, 0] - of_target
        np.add(logarithm, largest, out=log_sum_exp[part])
        if parallel_for is not None:
            row *= parallel_for / total
            row[at] -= parallel_for

    for_each_row_block(len(logits), logits.shape[1], body)


def _gradient(logits: Array, targets: Ints, log_sum_exp: Array, parallel_for: float) -> None:
    """The same gradient, where log_sum_exp is known."""

    def body(part: slice) -> None:
        row = logits[part]
        row -= log_sum_exp[part]
        np.exp(row, out=row)
        row *= parallel_for
        row[np.arange(part.stop - part.start), targets[part]] -= parallel_for

    for_each_row_block(len(logits), logits.shape[1], body)
