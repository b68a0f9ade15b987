"""AdamW in one pass, and the global norm of gradients that lie side by side in one launch."""

from __future__ import annotations

from collections.abc import Sequence

import cupy

from ..contract import Array
from ..plain import optimizer as plain
from .launch import Source, address, blocks_for, fits

SOURCE = Source("optimizer.cu", "adamw", "squares", "clip")
THREADS, PER_THREAD = 256, 4
MOST_BLOCKS = 1024  # enough to keep any GPU's memory busy; each then takes several turns
PARAMETER_ALIGNMENT = 64  # elements: 256 bytes in float32


def clip_scale(gradients: Sequence[Array], max_norm: float) -> tuple[Array, Array]:
    runs = _merged(gradients)
    if not fits(*runs):
        return plain.clip_scale(gradients, max_norm)
    grids = [blocks_for(run.size, THREADS * PER_THREAD, MOST_BLOCKS) for run in runs]
    n = sum(grid[0] for grid in grids)
    sums, norm, scale = cupy.empty(n, dtype="f"), cupy.empty((), dtype="f"), cupy.empty((), dtype="f")
    first = 0
    for run, grid in zip(runs, grids, strict=True):
        SOURCE.launch("squares", grid, (THREADS,), run, sums, first, run.size)
        first += grid[0]
    SOURCE.launch("clip", (1,), (THREADS,), sums, n, max_norm, plain.NORM_EPS, norm, scale)
    return norm, scale


def adamw(param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, numbers: Array, scale: Array | None) -> None:
    if fits(param, grad, exp_avg, exp_avg_sq):
        grid = blocks_for(param.size, THREADS * PER_THREAD, MOST_BLOCKS)
        SOURCE.launch("adamw", grid, (THREADS,), param, grad, exp_avg, exp_avg_sq, numbers, scale, param.size)
    else:
        plain.adamw(param, grad, exp_avg, exp_avg_sq, numbers, scale)


def _merged(arrays: Sequence[Array]) -> list[Array]:
    """The arrays as flat ones, with those that are neighbours in an optimizer's flat array merged.

    Only such gradients are views; the gaps between them are 0 and stay so: see nn/flat.py.
    """
    runs: list[Array] = []
    for array in arrays:
        whole = array.base
        if runs and whole is not None and whole is runs[-1].base and whole.ndim == 1:
            start, begin = [(address(a) - address(whole)) // a.itemsize for a in (array, runs[-1])]
            if 0 <= start - (begin + runs[-1].size) < PARAMETER_ALIGNMENT:
                runs[-1] = whole[begin : start + array.size]
                continue
        runs.append(array.reshape(-1))
    return runs
