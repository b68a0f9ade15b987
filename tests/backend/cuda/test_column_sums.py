"""backend/cuda/column_sums.cu on the simulator, against NumPy's sums in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import FLOAT32, caught, needs_compiler, planted, races_of, relative_error, same_in_every_order
from standin.record import Record

from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.select import to_host

pytestmark = needs_compiler

SHAPES = [(N, C) for N in (1, 31, 33, 130) for C in (5, 37, 40, 256, 768)]
MANY_ROWS = (9000, 5)  # more than the most blocks' warps, each of which has one row or two
OnGPU = Callable[..., Any]


def arrays(N: int, C: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(N * C)
    return rng.standard_normal((N, C)).astype(np.float32), rng.standard_normal(C).astype(np.float32)


def check(N: int, C: int, accumulate: bool, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.column_sums import column_sums

    x, before = arrays(N, C)

    def run() -> Any:
        total = on_gpu(before)
        column_sums(on_gpu(x), GradOut(total, accumulate))
        return total

    expected = x.astype(np.float64).sum(0) + accumulate * before.astype(np.float64)
    assert relative_error(same_in_every_order(run)[0], expected) < FLOAT32


@pytest.mark.parametrize("accumulate", [False, True], ids=["written", "added"])
@pytest.mark.parametrize(("N", "C"), [*SHAPES, MANY_ROWS], ids=str)
def test_columns_are_summed_in_every_thread_order(N: int, C: int, accumulate: bool, on_gpu: OnGPU) -> None:
    check(N, C, accumulate, on_gpu)


def test_all_axes_but_the_last_are_summed_in_one_launch_and_no_wait(simulator: Record, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.column_sums import column_sums

    x, total = on_gpu(*arrays(6, 40))
    column_sums(x, GradOut(total, False))  # the first launch of its size makes the counters
    for noted in (simulator.launches, simulator.syncs, simulator.uploads):
        noted.clear()
    column_sums(x.reshape(2, 3, 40), GradOut(total, False))
    assert simulator.launches == ["column_sums<float, 4>"]
    assert simulator.syncs == simulator.uploads == []
    assert relative_error(total, arrays(6, 40)[0].astype(np.float64).sum(0)) < FLOAT32


@pytest.mark.parametrize(("N", "dtype"), [(7, np.float64), (0, np.float32)], ids=["float64", "no rows"])
@pytest.mark.parametrize("accumulate", [False, True], ids=["written", "added"])
def test_what_the_kernel_does_not_take_is_summed_too(
    N: int, dtype: Any, accumulate: bool, simulator: Record, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend.cuda.column_sums import column_sums

    x, before = (a.astype(dtype) for a in arrays(N, 40))
    total = on_gpu(before)
    column_sums(on_gpu(x), GradOut(total, accumulate))
    assert simulator.launches == []
    np.testing.assert_array_equal(to_host(total), x.sum(0) + accumulate * before)


BUGS = {
    "a warp's sums are left out": ("w < COLUMN_WARPS; ++w", "w < COLUMN_WARPS - 1; ++w"),
    "one block's sums for all": ("partial + blockIdx.y * pitch", "partial"),
    "only as many blocks as warps": ("row < gridDim.y; row += COLUMN_WARPS", "row < gridDim.y; row += gridDim.y"),
    "one counter for all tiles": ("tickets + blockIdx.x, gridDim.y", "tickets, gridDim.y"),
    "a warp's first row only": ("return gridDim.y * COLUMN_WARPS;", "return 1 << 20;"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "columns.cuh", right, wrong), caught():
        check(130, 256, False, on_gpu)
        check(*MANY_ROWS, False, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.column_sums import column_sums
    from nanograd_gpt.backend.cuda.launch import FOLDER

    def run() -> None:
        x, total = on_gpu(*arrays(18, 8))
        column_sums(x, GradOut(total, True))

    assert races_of(run) == []
    right = "    __syncthreads();\n    if (warp > 0) return;"
    with planted(FOLDER / "columns.cuh", right, right.replace("    __syncthreads();\n", "")):
        assert races_of(run) != []
