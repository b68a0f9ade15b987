"""backend/cuda/optimizer.cu on the simulator, against plain/optimizer.py in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import (
    FLOAT32,
    caught,
    needs_compiler,
    planted,
    races_of,
    relative_error,
    same_in_every_order,
)
from standin.record import Record

from nanograd_gpt.backend.contract import AdamWNumbers
from nanograd_gpt.backend.plain import optimizer as plain
from nanograd_gpt.backend.select import to_device, to_host
from nanograd_gpt.nn import Parameter
from nanograd_gpt.optim import AdamW, clip_grad_norm

pytestmark = needs_compiler

SIZES = [1, 3, 4, 255, 1024, 1025, 5000]
NUMBERS = {
    "first": AdamWNumbers.at_step(1, 1e-2, (0.9, 0.999), eps=1e-8, weight_decay=0.1),
    "later": AdamWNumbers.at_step(1000, 3e-4, (0.9, 0.95), eps=1e-8, weight_decay=0.0),
    "short memory": AdamWNumbers.at_step(2, 1e-2, (0.2, 0.9), eps=1e-3, weight_decay=0.5),
}
OnGPU = Callable[..., Any]


def arrays(size: int) -> list[Any]:
    """param, grad, exp_avg, exp_avg_sq"""
    param, grad, exp_avg, root = np.random.default_rng(size).standard_normal((4, size)).astype(np.float32)
    return [param, grad, exp_avg, root * root]


@pytest.mark.parametrize("scale", [None, 0.25])
@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS.keys())
@pytest.mark.parametrize("size", SIZES)
def test_adamw_is_the_formula_in_every_thread_order(
    size: int, numbers: AdamWNumbers, scale: float | None, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend import cuda

    factor = None if scale is None else np.array(scale)

    def run() -> list[Any]:
        param, grad, *means = on_gpu(*arrays(size))
        factor_ = None if factor is None else on_gpu(factor.astype(np.float32))
        cuda.adamw(param, grad, *means, on_gpu(np.array(numbers)), factor_)
        return [param, *means]

    expected = [a.astype(np.float64) for a in arrays(size)]
    plain.adamw(*expected, np.array(numbers), factor)
    for got, exact in zip(same_in_every_order(run), [expected[0], *expected[2:]], strict=True):
        assert relative_error(got, exact) < FLOAT32


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
@pytest.mark.parametrize("sizes", [[1], [5000], [7, 3, 1025], [4096, 4096 * 4, 1]], ids=str)
def test_the_norm_and_the_factor_are_the_formulas_in_every_thread_order(
    sizes: list[int], max_norm: float, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend import cuda

    gradients = [arrays(size)[1] for size in sizes]
    norm, scale = same_in_every_order(lambda: cuda.clip_scale([on_gpu(g) for g in gradients], max_norm))
    exact, exact_scale = plain.clip_scale([g.astype(np.float64) for g in gradients], max_norm)
    assert relative_error(norm, np.asarray(exact)) < FLOAT32
    assert relative_error(scale, np.asarray(exact_scale)) < FLOAT32


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_is_not_hidden(value: float, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    norm, scale = cuda.clip_scale([on_gpu(np.array([1, value, 2], np.float32))], 1.0)
    np.testing.assert_array_equal(to_host(norm), value)
    np.testing.assert_array_equal(to_host(scale), np.nan if np.isnan(value) else 0)


def trained(device: Any, dtype: Any) -> tuple[AdamW, list[float]]:
    """Three clipped updates of parameters of odd sizes, of which one has a gradient in the last two only."""
    parameters = [Parameter(to_device(arrays(size)[0].astype(dtype), device)) for size in (7, 130, 1, 64)]
    optimizer, norms = AdamW(parameters, lr=0.1), []
    for step in range(3):
        optimizer.zero_grad()
        for p in parameters[: 4 if step else 3]:
            (p * p * (step + 1)).sum().backward()
        norm: Any = optimizer.step(0.5)
        norms.append(float(norm))
    return optimizer, norms


@pytest.mark.usefixtures("standin")
def test_an_optimizer_takes_the_steps_that_it_takes_on_the_cpu() -> None:
    (ours, norms), (exact, exact_norms) = trained("cuda", np.float32), trained("cpu", np.float64)
    np.testing.assert_allclose(norms, exact_norms, rtol=1e-6)
    assert ours.steps == exact.steps == [3, 3, 3, 2]
    for a, b in zip(ours.parameters, exact.parameters, strict=True):
        assert relative_error(to_host(a.data), np.asarray(b.data)) < FLOAT32


def test_a_step_of_many_parameters_is_three_launches_and_no_wait(simulator: Record) -> None:
    parameters = [Parameter(to_device(arrays(10 * i + 1)[0], "cuda")) for i in range(12)]
    optimizer = AdamW(parameters)
    for p in parameters:
        (p * p).sum().backward()
    simulator.syncs.clear()
    simulator.launches.clear()
    optimizer.step(1.0)
    assert simulator.syncs == []
    assert simulator.launches == ["squares", "clip", "adamw"]


def test_gradients_outside_of_an_optimizer_are_not_merged_over_what_lies_between(on_gpu: OnGPU) -> None:
    parameters = [Parameter(on_gpu(np.full(size, 3.0, np.float32))) for size in (4, 9)]
    for p in parameters:
        (p * p).sum().backward()
    assert float(clip_grad_norm(parameters, 1e9)) == pytest.approx(6 * np.sqrt(13), rel=1e-6)


BUGS = {
    "the tail is left out": ("for (long long k = i; k < size; ++k) update", "for (long long k = i; k < 0; ++k) update"),
    "a turn too far": ("size) {\n            Pack<float> p =", "size + N) {\n            Pack<float> p ="),
    "the mean is not stored": ("store_pack(exp_avg + i, m);", ""),
    "the decay in place of the rate": ("n[RATE] * m", "n[DECAY] * m"),
    "the factor is forgotten": ("g.x[k] * factor", "g.x[k]"),
    "one block's sum for all": ("sums[first + blockIdx.x] = sum;", "sums[first] = sum;"),
    "sums beyond a block's threads": ("i < n; i += blockDim.x) sum", "i < 1; i += blockDim.x) sum"),
}  # fmt: skip


@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
@pytest.mark.usefixtures("simulator")
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "optimizer.cu", right, wrong), caught():
        test_adamw_is_the_formula_in_every_thread_order(1025, NUMBERS["first"], 0.25, on_gpu)
        test_the_norm_and_the_factor_are_the_formulas_in_every_thread_order([4096 * 4, 7], 0.01, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda
    from nanograd_gpt.backend.cuda.launch import FOLDER

    def run() -> Any:
        return cuda.clip_scale([on_gpu(np.ones(2048, np.float32))], 1.0)

    assert races_of(run) == []
    right = "if (lane == 0) per_warp[warp] = value;\n    __syncthreads();"
    with planted(FOLDER / "common.cuh", right, right.replace("__syncthreads();", "")):
        assert races_of(run) != []
