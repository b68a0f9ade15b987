"""AdamW (Loshchilov and Hutter 2019) in PyTorch's order of operations, and the norm that clipping needs."""

from __future__ import annotations

from ..array_namespace import array_namespace
from ..contract import Array


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
    xp = array_namespace(param)
    beta1, beta2 = betas
    param *= 1 - lr * weight_decay  # decoupled: not part of the gradient
    if beta1 > 0.5:
        exp_avg += (1 - beta1) * (grad - exp_avg)
    else:  # lerp from the nearer end, as in PyTorch: else a large mean rounds a small gradient away
        exp_avg[...] = grad - beta1 * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * (grad * grad)
    denominator = xp.sqrt(exp_avg_sq) / (1 - beta2**step) ** 0.5
    denominator += eps
    param -= (lr / (1 - beta1**step)) * (exp_avg / denominator)


def squared_norm(flat: Array) -> Array:
    return array_namespace(flat).asarray((flat * flat).sum())
