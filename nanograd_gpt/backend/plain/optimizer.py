"""AdamW (Loshchilov and Hutter 2019), and the norm that clipping needs.

Numerator and denominator of Adam's step are multiplied by sqrt(1 - beta2^step), which then needs no pass over an array:
    rate * m / (sqrt(v) + eps),  with `rate` and `eps` for this update      (Kingma and Ba 2015, end of section 2)
"""

from __future__ import annotations

from collections.abc import Sequence

from ..array_namespace import array_namespace
from ..contract import AdamWNumbers, Array

NORM_EPS = 1e-6  # added to the norm, as PyTorch does


def clip_scale(gradients: Sequence[Array], max_norm: float) -> tuple[Array, Array]:
    xp = array_namespace(gradients[0])
    return scale_for_norm(xp.stack([xp.asarray((g * g).sum()) for g in gradients]), max_norm)


def scale_for_norm(squares: Array, max_norm: float) -> tuple[Array, Array]:
    """squares (n,), each array's sum of squares  ->  the norm (), and the factor that clips it ()"""
    xp = array_namespace(squares)
    norm = xp.sqrt(squares.sum())
    return norm, xp.minimum(max_norm / (norm + NORM_EPS), 1.0)


def adamw(param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, numbers: Array, scale: Array | None) -> None:
    xp = array_namespace(param)
    n = AdamWNumbers(*numbers.astype(param.dtype))
    g = grad if scale is None else grad * scale
    param *= n.decay  # decoupled: not part of the gradient
    difference = g - exp_avg
    # lerp from the nearer end, as in PyTorch: else a large mean rounds a small gradient away
    exp_avg[...] = xp.where(n.beta1 > 0.5, exp_avg + n.rest1 * difference, g - n.beta1 * difference)
    exp_avg_sq *= n.beta2
    exp_avg_sq += n.rest2 * (g * g)
    denominator = xp.sqrt(exp_avg_sq)
    denominator += n.eps
    param -= n.rate * (exp_avg / denominator)
