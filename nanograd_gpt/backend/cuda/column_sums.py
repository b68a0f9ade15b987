"""Sums over a matrix's rows in one launch: the gradient of a linear layer's bias."""

from __future__ import annotations

import cupy

from ..contract import Array, GradOut
from ..plain.matmul import rows
from .cast import to_float
from .launch import Grid, Source, blocks_for, fits, fits_rounded, type_of
from .tickets import tickets

SOURCE = Source("column_sums.cu", *(f"column_sums<{T}, {n}>" for T in ("float", "bf16") for n in (4, 1)))
THREADS, WARPS, WARP = 256, 8, 32  # columns.cuh's
MOST_BLOCKS = 1056  # eight for each multiprocessor of an H100


def column_sums(x: Array, total: GradOut) -> None:
    """x (..., C) float32 or bf16: writes its sums over all axes but the last to total (C,) float32."""
    if not (x.size and fits_rounded(x) and fits(total.array)):
        total.write(rows(to_float(x)).sum(axis=0))
        return
    n, grid, N, C = *tiles(x), *rows(x).shape
    SOURCE.launch(f"column_sums<{type_of(x)}, {n}>", grid, (THREADS,), x, *total, *scratch(n, grid), N, C)


def tiles(x: Array) -> tuple[int, Grid]:
    """The values that a lane loads at once of a row of x (..., C), and the grid: tiles of columns, shares of rows."""
    N, C = rows(x).shape
    n = 1 if C % 4 else 4
    across = blocks_for(C, n * WARP)[0]
    return n, (across, min(blocks_for(N, WARPS)[0], max(1, MOST_BLOCKS // across)))


def scratch(n: int, grid: Grid) -> tuple[Array, Array]:
    """Memory for each block's sums and a counter for each tile, as finish_column_sums takes them."""
    across, down = grid
    return cupy.empty((down, across * n * WARP), dtype="f"), tickets(across)
