"""AdamW in cache-sized blocks; bit-identical to plain/optimizer.py."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from .blocks import SHARED_BLOCK_ELEMENTS, for_each_block
from .threads import with_single_blas_thread


def adamw(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    beta1, beta2 = betas
    decay, rate = 1 - lr * weight_decay, lr / (1 - beta1**step)
    root_of_correction = (1 - beta2**step) ** 0.5

    def update(block: slice) -> None:
        p, g, m, v = param[block], grad[block], exp_avg[block], exp_avg_sq[block]
        p *= decay
        t = g - m
        if beta1 > 0.5:
            t *= 1 - beta1
            m += t
        else:
            t *= beta1
            np.subtract(g, t, out=m)
        v *= beta2
        np.multiply(g, g, out=t)
        t *= 1 - beta2
        v += t
        np.sqrt(v, out=t)
        t /= root_of_correction
        t += eps
        np.divide(m, t, out=t)
        t *= rate
        p -= t

    for_each_block(param.size, update)


def squared_norm(flat: Array) -> Array:
    sums = np.zeros(-(-flat.size // SHARED_BLOCK_ELEMENTS), dtype=flat.dtype)  # one a block, added in order

    def sum_block(block: slice) -> None:
        sums[block.start // SHARED_BLOCK_ELEMENTS] = flat[block] @ flat[block]

    with_single_blas_thread(lambda: for_each_block(flat.size, sum_block, SHARED_BLOCK_ELEMENTS))
    return np.asarray(sums.sum())
