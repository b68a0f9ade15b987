"""LayerNorm over the last axis (Ba et al. 2016), with the biased variance."""

from __future__ import annotations

from ..array_namespace import array_namespace
from ..contract import Array, GradOut


def layer_norm(x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
    xp = array_namespace(x)
    mean = x.mean(axis=-1, keepdims=True)
    y = x - mean
    variance = (y * y).mean(axis=-1, keepdims=True)  # not xp.var: it takes |x|^2 of complex x
    rstd = 1 / xp.sqrt(variance + eps)
    y *= rstd
    y *= scale
    y += shift
    return y, mean, rstd


def layer_norm_backward(
    dy: Array,
    x: Array,
    scale: Array,
    mean: Array,
    rstd: Array,
    dscale: GradOut | None,
    dshift: GradOut | None,
    residual: Array | None,
) -> Array:
    norm = x - mean
    norm *= rstd
    all_but_last = tuple(range(x.ndim - 1))
    if dscale is not None:
        dscale.write((dy * norm).sum(axis=all_but_last))
    if dshift is not None:
        dshift.write(dy.sum(axis=all_but_last))
    dx = dy * scale
    norm *= (dx * norm).mean(axis=-1, keepdims=True)
    dx -= dx.mean(axis=-1, keepdims=True)
    dx -= norm
    dx *= rstd
    return dx if residual is None else dx + residual
