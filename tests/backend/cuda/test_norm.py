"""backend/cuda/norm.cu on the simulator, against plain/norm.py in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import FLOAT32, caught, needs_compiler, planted, races_of, relative_error, same_in_every_order
from standin.record import Record

from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import norm as plain
from nanograd_gpt.backend.select import to_host

pytestmark = needs_compiler

SHAPES = [(N, C) for N in (1, 31, 33, 130) for C in (5, 37, 40, 256, 768)]
LONG = [(3, 67), (2, 1024), (3, 1028), (2, 1600), (1, 2047), (2, 4096)]  # rows of the widest warp, and of a block
MANY_BLOCKS = (2200, 8)  # the most there are, in groups of 16 and one of 8; some warps have a second row
EPS = 1e-5
OnGPU = Callable[..., Any]


def arrays(N: int, C: int) -> dict[str, Any]:
    rng = np.random.default_rng(N * C)
    x, dy, residual = (rng.standard_normal((N, C)).astype(np.float32) for _ in range(3))
    scale, shift, dscale, dshift = (rng.standard_normal(C).astype(np.float32) for _ in range(4))
    x += 3
    return locals()


def in_double(values: dict[str, Any]) -> dict[str, Any]:
    return {name: np.array(a, np.float64) for name, a in values.items() if isinstance(a, np.ndarray)}


@pytest.mark.parametrize(("N", "C"), [*SHAPES, *LONG], ids=str)
def test_layer_norm_is_the_formula_in_every_thread_order(N: int, C: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(N, C)
    got = same_in_every_order(lambda: cuda.layer_norm(*on_gpu(a["x"], a["scale"], a["shift"]), EPS))
    a = in_double(a)
    for name, array, exact in zip(
        ("y", "mean", "rstd"), got, plain.layer_norm(a["x"], a["scale"], a["shift"], EPS), strict=True
    ):
        assert relative_error(array, exact) < FLOAT32, name


def backward(
    kernel: Any, a: dict[str, Any], move: Any, *, accumulate: bool = False, residual: bool = True, skip: str = ""
) -> list[Any]:
    """dx, and dscale and dshift but the one to skip, of a backend's kernel."""
    dy, x, scale, beside = move(a["dy"], a["x"], a["scale"], a["residual"] if residual else None)
    mean = np.asarray(a["x"], np.float64).mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(np.asarray(a["x"], np.float64).var(-1, keepdims=True) + EPS)
    mean, rstd = move(mean.astype(a["x"].dtype), rstd.astype(a["x"].dtype))
    outs = [None if name == skip else GradOut(move(a[name]), accumulate) for name in ("dscale", "dshift")]
    dx = kernel(dy, x, scale, mean, rstd, *outs, beside)
    return [dx, *(out.array for out in outs if out is not None)]


def unmoved(*copied: Any) -> Any:
    moved = [None if a is None else np.array(a) for a in copied]
    return moved[0] if len(moved) == 1 else moved


def check_backward(N: int, C: int, on_gpu: OnGPU, **options: Any) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(N, C)
    got = same_in_every_order(lambda: backward(cuda.layer_norm_backward, a, on_gpu, **options))
    for array, exact in zip(got, backward(plain.layer_norm_backward, in_double(a), unmoved, **options), strict=True):
        assert relative_error(array, exact) < FLOAT32


@pytest.mark.parametrize("accumulate", [False, True], ids=["written", "added"])
@pytest.mark.parametrize(("N", "C"), [*SHAPES, *LONG], ids=str)
def test_its_gradients_are_the_formulas_in_every_thread_order(N: int, C: int, accumulate: bool, on_gpu: OnGPU) -> None:
    check_backward(N, C, on_gpu, accumulate=accumulate)


@pytest.mark.parametrize("skip", ["dscale", "dshift"])
@pytest.mark.parametrize("residual", [False, True], ids=["alone", "with the residual's gradient"])
def test_a_gradient_that_is_not_wanted_is_left_out(skip: str, residual: bool, on_gpu: OnGPU) -> None:
    check_backward(33, 40, on_gpu, skip=skip, residual=residual)


def test_the_sums_of_many_blocks_are_the_formulas(on_gpu: OnGPU) -> None:
    check_backward(*MANY_BLOCKS, on_gpu, accumulate=True)


def test_dx_alone_needs_no_sums(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(9, 40)
    _, mean, rstd = cuda.layer_norm(*on_gpu(a["x"], a["scale"], a["shift"]), EPS)
    dy, x, scale = on_gpu(a["dy"], a["x"], a["scale"])
    dx = cuda.layer_norm_backward(dy, x, scale, mean, rstd, None, None, None)
    expected = backward(plain.layer_norm_backward, in_double(a), unmoved, residual=False)[0]
    assert relative_error(dx, expected) < FLOAT32


def test_rows_lie_along_the_last_axis(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(6, 40)
    x, scale, shift = on_gpu(a["x"].reshape(2, 3, 40), a["scale"], a["shift"])
    y, mean, rstd = cuda.layer_norm(x, scale, shift, EPS)
    assert (y.shape, mean.shape, rstd.shape) == ((2, 3, 40), (2, 3, 1), (2, 3, 1))
    outs = [GradOut(on_gpu(a[name]), False) for name in ("dscale", "dshift")]
    dx = cuda.layer_norm_backward(on_gpu(a["dy"].reshape(2, 3, 40)), x, scale, mean, rstd, *outs, None)
    expected = backward(plain.layer_norm_backward, in_double(a), unmoved, residual=False)
    assert relative_error(dx, expected[0].reshape(2, 3, 40)) < FLOAT32
    assert relative_error(outs[0].array, expected[1]) < FLOAT32


def test_a_mean_far_from_0_does_not_drown_the_variance(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x = (1000 + np.arange(40) % 2).astype(np.float32)[None]
    y, mean, rstd = cuda.layer_norm(*on_gpu(x, np.ones(40, np.float32), np.zeros(40, np.float32)), 0.0)
    np.testing.assert_array_equal(to_host(mean), 1000.5)
    np.testing.assert_array_equal(to_host(rstd), 2)
    np.testing.assert_array_equal(to_host(y), 2 * (x - 1000.5))


def test_a_row_with_a_nan_spoils_no_other(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(3, 40)
    a["x"][1, 7] = np.nan
    y = to_host(cuda.layer_norm(*on_gpu(a["x"], a["scale"], a["shift"]), EPS)[0])
    np.testing.assert_array_equal(np.isnan(y).all(1), [False, True, False])
    assert np.isfinite(y[[0, 2]]).all()


def test_each_way_is_one_launch_and_no_wait(simulator: Record, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(33, 768)
    x, scale, shift = on_gpu(a["x"], a["scale"], a["shift"])
    dy, residual, dscale, dshift = on_gpu(a["dy"], a["residual"], a["dscale"], a["dshift"])
    for noted in (simulator.launches, simulator.syncs, simulator.uploads):
        noted.clear()
    _, mean, rstd = cuda.layer_norm(x, scale, shift, EPS)
    cuda.layer_norm_backward(dy, x, scale, mean, rstd, GradOut(dscale, True), GradOut(dshift, True), residual)
    assert simulator.launches == ["layer_norm<float, 4, 6, 32>", "layer_norm_backward<float, 4, 6, 32>"]
    assert simulator.syncs == simulator.uploads == []


@pytest.mark.parametrize(
    ("N", "C", "dtype"),
    [(7, 40, np.float64), (3, 4100, np.float32), (2, 2049, np.float32), (0, 40, np.float32)],
    ids=["float64", "long rows", "long rows of single values", "no rows"],
)
def test_what_the_kernels_do_not_take_is_the_plain_formulas(
    N: int, C: int, dtype: Any, simulator: Record, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend import cuda

    a = {name: value.astype(dtype) for name, value in arrays(N, C).items() if isinstance(value, np.ndarray)}
    got = backward(cuda.layer_norm_backward, a, on_gpu, accumulate=True)
    got += cuda.layer_norm(*on_gpu(a["x"], a["scale"], a["shift"]), EPS)
    expected = backward(plain.layer_norm_backward, a, unmoved, accumulate=True)
    expected += plain.layer_norm(a["x"], a["scale"], a["shift"], EPS)
    assert simulator.launches == []
    for array, exact in zip(got, expected, strict=True):
        np.testing.assert_array_equal(to_host(array), exact)


def test_a_transposed_view_is_not_misread(simulator: Record, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = arrays(40, 40)
    x, scale, shift = on_gpu(a["x"], a["scale"], a["shift"])
    y = cuda.layer_norm(x.T, scale, shift, EPS)[0]
    assert simulator.launches == []
    a = in_double(a)
    assert relative_error(y, plain.layer_norm(a["x"].T, a["scale"], a["shift"], EPS)[0]) < FLOAT32


def compile_the_shortest_layout_only() -> None:
    """For the tests that compile anew; before the first launch."""
    from nanograd_gpt.backend.cuda.norm import SOURCES

    SOURCES["float"].kernels = ("layer_norm<float, 4, 2, 32>", "layer_norm_backward<float, 4, 2, 32>")


BUGS = {
    "variance of what lies beyond the row": ("if (c < C) squares +=", "squares +="),
    "the residual's gradient is lost": ("beside[i] += (g", "beside[i] = (g"),
    "a warp's first row only": ("row += gridDim.x * ROWS", "row += rows"),
    "a warp's sums are left out": ("of_rows[0] + c, WIDTH, ROWS)", "of_rows[0] + c, WIDTH, ROWS - 1)"),
    "a block's sums are left out": ("2 * WIDTH, members);", "2 * WIDTH, GROUP - 1);"),
    "a group's sums are left out": ("partial + c, GROUP * 2 * WIDTH, groups)", "partial + c, GROUP * 2 * WIDTH, 1)"),
    "every group finishes": ("if (!is_last_block(tickets, groups)) return;", ""),
    "dshift is always written": ("sum, add_dshift)", "sum, false)"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    compile_the_shortest_layout_only()
    with planted(FOLDER / "norm.cu", right, wrong), caught():
        test_layer_norm_is_the_formula_in_every_thread_order(33, 40, on_gpu)
        test_the_sums_of_many_blocks_are_the_formulas(on_gpu)
        check_backward(130, 40, on_gpu, accumulate=True)


@pytest.mark.usefixtures("simulator")
def test_a_ticket_that_stays_is_caught(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    compile_the_shortest_layout_only()
    with planted(FOLDER / "common.cuh", "if (last) *ticket = 0;", ""), caught():
        check_backward(130, 40, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda
    from nanograd_gpt.backend.cuda.launch import FOLDER

    def run() -> Any:
        return backward(cuda.layer_norm_backward, arrays(18, 8), on_gpu)

    compile_the_shortest_layout_only()
    assert races_of(run) == []
    right = "        __syncthreads();\n        for (int c"
    with planted(FOLDER / "norm.cu", right, right.replace("        __syncthreads();\n", "")):
        assert races_of(run) != []
