"""AdamW, bit-identical to plain/optimizer.py, and gradient clipping, in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import AdamWNumbers, Array
from ..plain.optimizer import scale_for_norm
from .blocks import SHARED_BLOCK_ELEMENTS, for_each_block
from .threads import with_single_blas_thread


def clip_scale(gradients: Sequence[Array], max_norm: float) -> tuple[Array, Array]:
    return scale_for_norm(np.stack([squared_norm(g.reshape(-1)) for g in gradients]), max_norm)


def squared_norm(flat: Array) -> Array:
    """flat (size,)  ->  sum of squares ()"""
    sums = np.zeros(-(-flat.size // SHARED_BLOCK_ELEMENTS), dtype=flat.dtype)  # one a block, added in order

    def sum_block(block: slice) -> None:
        sums[block.start // SHARED_BLOCK_ELEMENTS] = np.dot(flat[block], flat[block])  # @ would keep the GIL

    with_single_blas_thread(lambda: for_each_block(flat.size, 1, sum_block, rows=SHARED_BLOCK_ELEMENTS))
    return np.asarray(sums.sum())


def adamw(param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, numbers: Array, scale: Array | None) -> None:
    n = AdamWNumbers(*numbers.tolist())

    def update(block: slice) -> None:
        p, m, v = param[block], exp_avg[block], exp_avg_sq[block]
        g = grad[block] if scale is None else grad[block] * scale
        p *= n.decay
        t = g - m
        if n.beta1 > 0.5:
            t *= n.rest1
            m += t
        else:
            t *= n.beta1
            np.subtract(g, t, out=m)
        v *= n.beta2
        np.multiply(g, g, out=t)
        t *= n.rest2
        v += t
        np.sqrt(v, out=t)
        t += n.eps
        np.divide(m, t, out=t)
        t *= n.rate
        p -= t

    for_each_block(param.size, 15, update)
