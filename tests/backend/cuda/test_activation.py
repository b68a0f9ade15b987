"""backend/cuda/activation.cu on the simulator, against plain/activation.py in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import FLOAT32, caught, needs_compiler, planted, races_of, relative_error, same_in_every_order
from standin.record import Record

from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import activation as plain
from nanograd_gpt.backend.select import to_host

pytestmark = needs_compiler

SIZES = [1, 3, 4, 255, 1024, 1025, 5000]
SHAPES = [(N, C) for N in (1, 31, 33, 130) for C in (5, 37, 40, 256, 768)]
MANY_ROWS = (9000, 5)  # more than the most blocks' warps
WIDTH = 3  # of the linear layer's input: few, so that its product adds next to no rounding
OnGPU = Callable[..., Any]


def numbers(size: int) -> Any:
    return (2 * np.random.default_rng(size).standard_normal(size)).astype(np.float32)


@pytest.mark.parametrize("want_derivative", [False, True], ids=["y", "y and dy/dx"])
@pytest.mark.parametrize("size", SIZES)
def test_gelu_is_the_formula_in_every_thread_order(size: int, want_derivative: bool, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x = numbers(size)
    y, derivative = plain.gelu(x.astype(np.float64), want_derivative)
    assert (cuda.gelu(on_gpu(x), want_derivative)[1] is None) == (derivative is None)
    got = same_in_every_order(lambda: [a for a in cuda.gelu(on_gpu(x), want_derivative) if a is not None])
    for array, exact in zip(got, (y, derivative), strict=False):
        assert exact is not None
        assert relative_error(array, exact) < FLOAT32


@pytest.mark.parametrize("size", SIZES)
def test_its_gradient_is_the_formula_in_every_thread_order(size: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    dy, derivative = numbers(size), numbers(size + 1)[:-1]
    (dx,) = same_in_every_order(lambda: cuda.gelu_backward(*on_gpu(dy, derivative)))
    assert relative_error(dx, dy.astype(np.float64) * derivative) < FLOAT32


def test_large_numbers_are_themselves_or_0(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x = np.array([50, -50, 1e9, -1e9, 0, -0.0, np.nan], np.float32)
    y, derivative = (to_host(a) for a in cuda.gelu(on_gpu(x), True))
    np.testing.assert_array_equal(y, [50, 0, 1e9, 0, 0, 0, np.nan])
    np.testing.assert_array_equal(derivative, [1, 0, 1, 0, 0.5, 0.5, np.nan])


# The linear layer with GELU


def layer(N: int, C: int) -> dict[str, Any]:
    """x (N, WIDTH), weight (C, WIDTH), bias, dy, and gradients to add to.

    x and weight are of few bits, so that x W^T is exact.
    """
    rng = np.random.default_rng(N * C)
    x, weight, dweight = (rng.integers(-8, 9, (n, WIDTH)) / 8 for n in (N, C, C))
    values = {"x": x, "weight": weight, "dweight": dweight, "bias": rng.standard_normal(C)}
    values |= {"dy": rng.standard_normal((N, C)), "dbias": rng.standard_normal(C)}
    return {name: a.astype(np.float32) for name, a in values.items()}


def in_double(values: dict[str, Any]) -> dict[str, Any]:
    return {name: a.astype(np.float64) for name, a in values.items()}


def unmoved(*copied: Any) -> Any:
    moved = [None if a is None else a.copy() for a in copied]
    return moved[0] if len(moved) == 1 else moved


def forward_and_backward(
    kernels: Any, a: dict[str, Any], move: Any, *, bias: bool = True, weight: bool = True, accumulate: bool = False
) -> list[Any]:
    """y, dx, and the gradients of the weight and the bias that are wanted."""
    x, w, b = move(a["x"], a["weight"], a["bias"] if bias else None)
    y, kept = kernels.linear_gelu(x, w, b, True)
    wanted = {"dweight": weight, "dbias": bias}
    outs = [GradOut(move(a[name]), accumulate) if want else None for name, want in wanted.items()]
    dx = kernels.linear_gelu_backward(move(a["dy"]), x, w, kept, *outs, True)
    return [y, dx, *(out.array for out in outs if out is not None)]


def check_layer(N: int, C: int, on_gpu: OnGPU, **options: Any) -> None:
    from nanograd_gpt.backend import cuda

    a = layer(N, C)
    got = same_in_every_order(lambda: forward_and_backward(cuda, a, on_gpu, **options))
    for array, exact in zip(got, forward_and_backward(plain, in_double(a), unmoved, **options), strict=True):
        assert relative_error(array, exact) < FLOAT32


@pytest.mark.parametrize("accumulate", [False, True], ids=["written", "added"])
@pytest.mark.parametrize(("N", "C"), SHAPES, ids=str)
def test_a_linear_layer_with_gelu_is_the_formula_in_every_thread_order(
    N: int, C: int, accumulate: bool, on_gpu: OnGPU
) -> None:
    check_layer(N, C, on_gpu, accumulate=accumulate)


def test_so_it_is_where_a_warp_has_several_rows(on_gpu: OnGPU) -> None:
    check_layer(*MANY_ROWS, on_gpu, weight=False)  # NumPy's product, by which the stand-in has dweight, rounds more


@pytest.mark.parametrize("C", [5, 40])
def test_its_bias_may_be_missing(C: int, on_gpu: OnGPU) -> None:
    check_layer(33, C, on_gpu, bias=False)


def test_what_is_not_wanted_is_neither_kept_nor_computed(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = layer(33, 40)
    x, weight, bias, dy = on_gpu(a["x"], a["weight"], a["bias"], a["dy"])
    y, kept = cuda.linear_gelu(x, weight, bias, False)
    assert kept is None
    kept = cuda.linear_gelu(x, weight, bias, True)[1]
    assert cuda.linear_gelu_backward(dy, x, weight, kept, None, None, False) is None
    assert relative_error(y, forward_and_backward(plain, in_double(a), unmoved)[0]) < FLOAT32


def test_rows_lie_along_the_last_axis(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = layer(6, 40)
    flat = forward_and_backward(cuda, a, on_gpu)
    a |= {"x": a["x"].reshape(2, 3, WIDTH), "dy": a["dy"].reshape(2, 3, 40)}
    for array, expected in zip(forward_and_backward(cuda, a, on_gpu), flat, strict=True):
        np.testing.assert_array_equal(to_host(array).ravel(), to_host(expected).ravel())


def test_each_way_is_one_launch_beside_the_products_and_no_wait(simulator: Record, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = layer(33, 40)
    forward_and_backward(cuda, a, on_gpu)  # the first launch of its size makes the counters
    on_device = {name: on_gpu(array) for name, array in a.items()}
    for noted in (simulator.launches, simulator.syncs, simulator.uploads):
        noted.clear()
    forward_and_backward(cuda, on_device, lambda *arrays: arrays[0] if len(arrays) == 1 else arrays)
    assert simulator.launches == ["gelu<float>", "bias_gelu_backward<float, 4>"]
    assert simulator.syncs == simulator.uploads == []


@pytest.mark.parametrize(("N", "dtype"), [(7, np.float64), (0, np.float32)], ids=["float64", "no rows"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_what_the_kernels_do_not_take_is_the_plain_formulas(
    N: int, dtype: Any, bias: bool, simulator: Record, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend import cuda

    a = {name: array.astype(dtype) for name, array in layer(N, 40).items()}
    got = forward_and_backward(cuda, a, on_gpu, bias=bias, accumulate=True)
    expected = forward_and_backward(plain, a, unmoved, bias=bias, accumulate=True)
    y, derivative = cuda.gelu(on_gpu(a["dy"]), True)
    got += [y, derivative, cuda.gelu_backward(y, derivative)]
    y, derivative = plain.gelu(a["dy"], True)
    assert derivative is not None
    expected += [y, derivative, plain.gelu_backward(y, derivative)]
    assert simulator.launches == []
    for array, exact in zip(got, expected, strict=True):
        np.testing.assert_array_equal(to_host(array), exact)


def test_a_gradient_that_is_a_view_is_not_misread(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    a = layer(40, 40)
    x, weight, bias, dy, dbias = on_gpu(a["x"], a["weight"], a["bias"], a["dy"].T, a["dbias"])
    kept = cuda.linear_gelu(x, weight, bias, True)[1]
    dx = cuda.linear_gelu_backward(dy.T, x, weight, kept, None, GradOut(dbias, True), True)
    expected = forward_and_backward(plain, in_double(a), unmoved, accumulate=True)
    assert relative_error(dx, expected[1]) < FLOAT32
    assert relative_error(dbias, expected[3]) < FLOAT32


BUGS = {
    "the tail is left out": ("for (; i < size; ++i) gelu_at", "for (; i < 0; ++i) gelu_at"),
    "y is a share of x": ("out[i] = values[i] * half[i];", "out[i] = half[i];"),
    "the derivative of another h": ("derivative_of(values[i], half_of", "derivative_of(gradient[i], half_of"),
    "the cubic term's factor": ("3.0f * ROOT * CUBIC", "ROOT * CUBIC"),
    "sums of squares": ("sum[i] += gradient[i];", "sum[i] += gradient[i] * gradient[i];"),
    "a warp's first row only": ("row += row_stride()", "row += rows"),
    "the bias's gradient is always written": ("dbias, accumulate, columns", "dbias, false, columns"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "activation.cu", right, wrong), caught():
        test_gelu_is_the_formula_in_every_thread_order(1025, True, on_gpu)
        check_layer(33, 40, on_gpu, accumulate=True)
        check_layer(*MANY_ROWS, on_gpu, weight=False)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    assert races_of(lambda: forward_and_backward(cuda, layer(18, 8), on_gpu)) == []
