"""Cross-entropy in one pass over the logits; the head's turns its logits into their gradient on the way.

A target out of range makes the loss nan: to name it, the host would have to wait for the device.
"""

from __future__ import annotations

from typing import Any

import cupy

from ..contract import Array, GradOut, Ints
from ..logits import GPU_LOGITS_BYTES
from ..plain import loss as plain
from .cast import to_float, write_bf16
from .gemm import Kind, gemm
from .ids import as_ids
from .launch import BF16, Grid, Source, blocks_for, fits, fits_rounded, lying_well, type_of
from .operands import empty_like_operand, operand, product_kind, result_dtype

SOURCE = Source(
    "loss.cu",
    "cross_entropy<float>",
    "cross_entropy_backward<float>",
    "cross_entropy_in_place<float>",
    "cross_entropy_in_place<bf16>",
    "cross_entropy_backward<bf16>",
    "mean",
    "times<float>",
    "times<bf16>",
)
WARP, MOST_THREADS, PACK_BYTES, TIMES_THREADS = 32, 1024, 16, 256

ROWS = 128  # a chunk's rows are a multiple: whole tiles of a product, and aligned slices of all arrays
PITCH = 64  # so are a row's elements in memory: products of rows that are not aligned are far slower
MULTIPLE = 8  # of a product's sizes in bf16, so that its rows are aligned


def cross_entropy(logits: Array, targets: Ints) -> tuple[Array, Array, Array]:
    if not fits(logits) or not logits.size:
        return plain.cross_entropy(logits, targets)
    N, V = logits.shape
    losses, largest, total = (cupy.empty(shape, dtype="f") for shape in ((N,), (N, 1), (N, 1)))
    arguments = logits, as_ids(targets), losses, largest, total, V
    SOURCE.launch("cross_entropy<float>", (N,), _threads(V, logits.dtype), *arguments)
    return _mean(losses), largest, total


def cross_entropy_backward(dloss: Array, logits: Array, targets: Ints, largest: Array, total: Array | float) -> Array:
    if isinstance(total, float) or not fits(dloss, logits, largest, total):
        return plain.cross_entropy_backward(dloss, logits, targets, largest, total)
    dlogits, (N, V) = cupy.empty_like(logits), logits.shape
    arguments = logits, as_ids(targets), largest, total, dloss, dlogits, 1 / N, V, V
    SOURCE.launch("cross_entropy_backward<float>", (N,), _threads(V, logits.dtype), *arguments)
    return dlogits


def linear_cross_entropy(
    x: Array, weight: Array, targets: Ints, want_gradient: bool
) -> tuple[Array, Array, Array | None]:
    """Keep the first chunk's gradient; backward recomputes the logits of the others."""
    if not _fit(x, weight):
        return plain.linear_cross_entropy(to_float(x), weight, targets, want_gradient)
    (N, _), V, targets = x.shape, len(weight), as_ids(targets)
    losses, log_sum_exp, kept = cupy.empty(N, dtype="f"), cupy.empty((N, 1), dtype="f"), None
    kind = product_kind(N)
    x, weight = operand(kind, x), _head_weight(kind, weight)
    for chunk in _chunks(kind, N, V):
        logits = _logits(kind, x[chunk], weight, V)
        keep = want_gradient and kept is None
        _in_place(logits, targets[chunk], losses[chunk], log_sum_exp[chunk], V, 1 / N, keep)
        kept = logits if keep else kept
        del logits  # free it before the next chunk is allocated
    return _mean(losses), log_sum_exp, kept


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
    if not _fit(x, weight):
        x = to_float(x)
        return plain.linear_cross_entropy_backward(dloss, x, weight, targets, log_sum_exp, kept, dweight, want_dx)
    (N, _), V, targets = x.shape, len(weight), as_ids(targets)
    kind, dloss = product_kind(N), lying_well(dloss)
    dx = empty_like_operand(kind, x) if want_dx else None
    x, weight = operand(kind, x), _head_weight(kind, weight)
    scaled = _times(x, dloss, cupy.empty_like(x))
    for chunk in _chunks(kind, N, V):
        if chunk.start == 0 and kept is not None:
            dlogits = kept
        else:
            dlogits = _logits(kind, x[chunk], weight, V)
            arrays = dlogits, targets[chunk], log_sum_exp[chunk], None, None, dlogits, 1 / N, V, dlogits.shape[1]
            kernel = f"cross_entropy_backward<{type_of(dlogits)}>"
            SOURCE.launch(kernel, (len(dlogits),), _threads(V, dlogits.dtype), *arrays)
        if dx is not None:
            gemm(dlogits[:, : len(weight)], weight, dx[chunk], kind)
        if dweight is not None:
            _add_to_head(kind, dlogits, scaled[chunk], dweight)
            dweight = GradOut(dweight.array, accumulate=True)
        del dlogits
    return None if dx is None else _times(dx, dloss, dx)


def _fit(x: Array, weight: Array) -> bool:
    return fits_rounded(x) and fits(weight) and x.size > 0 and weight.size > 0


def _chunks(kind: Kind, n_rows: int, vocabulary: int) -> list[slice]:
    """Slices of rows whose logits take GPU_LOGITS_BYTES at most, as even as they can be; the same on every GPU."""
    row_bytes = cupy.dtype(result_dtype(kind)).itemsize * _padded(vocabulary, PITCH)
    most = max(ROWS, GPU_LOGITS_BYTES // row_bytes // ROWS * ROWS)
    step = _padded(-(-n_rows // -(-n_rows // most)), ROWS)
    return [slice(i, min(i + step, n_rows)) for i in range(0, n_rows, step)]


def _padded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _head_weight(kind: Kind, weight: Array) -> Array:
    """The weight (V, C) in the type that products take; in bf16 with rows of zeros up to a multiple of PITCH.

    With them, the products' sizes suit the tensor cores, and the logits beyond V are 0, as are their gradients.
    """
    if kind != "bf16":
        return weight
    V, C = weight.shape
    rows = cupy.empty((_padded(V, PITCH), C), dtype=BF16)
    write_bf16(weight, rows[:V])
    rows.view("H")[V:] = 0
    return rows


def _logits(kind: Kind, x: Array, weight: Array, vocabulary: int) -> Array:
    """x (N, C), weight (V or more, C)  ->  logits (N, V and what fills the last multiple of PITCH)"""
    logits = cupy.empty((len(x), _padded(vocabulary, PITCH)), dtype=result_dtype(kind))
    gemm(x, weight.T, logits[:, : len(weight)], kind)
    return logits


def _in_place(
    logits: Array, targets: Ints, losses: Array, log_sum_exp: Array, vocabulary: int, share: float, want_gradient: bool
) -> None:
    """Fill losses (N,) and log_sum_exp (N, 1); if the gradient is wanted, turn logits into it, times share."""
    kernel = f"cross_entropy_in_place<{type_of(logits)}>"
    arguments = logits, targets, losses, log_sum_exp, share, want_gradient, vocabulary, logits.shape[1]
    SOURCE.launch(kernel, (len(logits),), _threads(vocabulary, logits.dtype), *arguments)


def _add_to_head(kind: Kind, dlogits: Array, x: Array, dweight: GradOut) -> None:
    """dlogits (N, V and what fills the last multiple of PITCH), x (N, C)  ->  dweight (V, C) = dlogits^T x

    In bf16, rows beyond the last MULTIPLE are a product of their own: with GPT-2's 50257, one for all took 1.5 ms on an
    H200 for 8192 tokens, 50256 and 1 take 0.95.
    """
    V = len(dweight.array)
    whole = V // MULTIPLE * MULTIPLE if kind == "bf16" else V
    for part in (slice(0, whole), slice(whole, V)):
        gemm(dlogits[:, part].T, x, dweight.array[part], kind, accumulate=dweight.accumulate)


def _times(x: Array, factor: Array, out: Array) -> Array:
    """x (...), factor () on the device  ->  out (...), which may be x"""
    grid = blocks_for(x.nbytes, TIMES_THREADS * PACK_BYTES)
    SOURCE.launch(f"times<{type_of(x)}>", grid, (TIMES_THREADS,), x, factor, out, x.size)
    return out


def _threads(vocabulary: int, dtype: Any) -> Grid:
    """The threads for a row, from its length and type alone, as the sums' order depends on them."""
    per_thread = PACK_BYTES // dtype.itemsize
    return (min(MOST_THREADS, _padded(-(-vocabulary // per_thread), WARP)),)


def _mean(losses: Array) -> Array:
    loss = cupy.empty((), dtype="f")
    SOURCE.launch("mean", (1,), (MOST_THREADS,), losses, loss, len(losses))
    return loss
