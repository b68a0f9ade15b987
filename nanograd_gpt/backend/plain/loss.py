"""Cross-entropy of the next token: from logits, or from the head's input in chunks of logits."""

from __future__ import annotations

from collections.abc import Iterator

from ..array_namespace import array_namespace
from ..contract import Array, GradOut, Ints

CHUNK_ELEMENTS = 4 * 1024 * 1024  # logits in memory at once: 16 MiB in float32


def cross_entropy(logits: Array, targets: Ints) -> tuple[Array, Array, Array]:
    xp = array_namespace(logits)
    if not len(targets):
        raise ValueError("cross-entropy: no targets; give at least one")
    largest = logits.real.max(axis=-1, keepdims=True)
    shifted = logits - largest  # first: in large logits, the log of the sum would be rounded away
    total = xp.exp(shifted).sum(axis=-1, keepdims=True)
    loss = (xp.log(total[:, 0]) - shifted[xp.arange(len(targets)), targets]).sum() / len(targets)
    return loss, largest, total


def cross_entropy_backward(dloss: Array, logits: Array, targets: Ints, largest: Array, total: Array | float) -> Array:
    xp = array_namespace(logits)
    share = dloss / len(targets)
    dlogits = xp.exp(logits - largest)
    dlogits *= share / total  # the probabilities, times the share
    dlogits[xp.arange(len(targets)), targets] -= share
    return dlogits


def chunks(n_rows: int, vocabulary: int) -> Iterator[slice]:
    """Slices of rows whose logits fit into CHUNK_ELEMENTS, the same on every machine."""
    step = max(1, CHUNK_ELEMENTS // vocabulary)
    return (slice(i, min(i + step, n_rows)) for i in range(0, n_rows, step))


def linear_cross_entropy(
    x: Array, weight: Array, targets: Ints, want_gradient: bool
) -> tuple[Array, Array, Array | None]:
    """Keep no gradient: backward recomputes all logits."""
    del want_gradient
    xp = array_namespace(x)
    if not len(targets):
        raise ValueError("cross-entropy: no targets; give at least one")
    N, V = len(x), len(weight)
    dtype = xp.result_type(x.dtype, weight.dtype)
    log_sum_exp = xp.empty((N, 1), dtype=dtype)
    loss = xp.zeros((), dtype=dtype)
    for chunk in chunks(N, V):
        mean, largest, total = cross_entropy(x[chunk] @ weight.T, targets[chunk])
        log_sum_exp[chunk] = largest + xp.log(total)
        loss += mean * ((chunk.stop - chunk.start) / N)
    return loss, log_sum_exp, None


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
    del kept
    N, V = len(x), len(weight)
    dx = array_namespace(x).empty_like(x) if want_dx else None
    for chunk in chunks(N, V):
        share = dloss * ((chunk.stop - chunk.start) / N)
        dlogits = cross_entropy_backward(share, x[chunk] @ weight.T, targets[chunk], log_sum_exp[chunk], 1.0)
        if dx is not None:
            dx[chunk] = dlogits @ weight
        if dweight is not None:
            dweight.write(dlogits.T @ x[chunk])
            dweight = GradOut(dweight.array, accumulate=True)
    return dx
