"""backend/cuda/attention.cu on the simulator, against plain/attention.py in float64."""

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

from nanograd_gpt.backend.plain import attention as plain
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

pytestmark = needs_compiler

SHAPES = [  # B, T, H, D
    *[(2, T, 2, 32) for T in (1, 31, 33, 64, 77)],
    *[(1, T, 2, 64) for T in (33, 130, 257)],
    *[(1, T, 1, 128) for T in (31, 130)],
    *[(1, 77, 2, D) for D in (1, 5, 20, 37, 100)],
    (3, 5, 4, 3),
]
OnGPU = Callable[..., Any]


def inputs(shape: tuple[int, ...], rate: float, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    """qkv, dy, and the mask or None"""
    B, T, H, D = shape
    rng = np.random.default_rng(T)
    qkv, dy = rng.standard_normal((B, T, 3 * H * D)), rng.standard_normal((B, T, H * D))
    keep = Generator(T).keep_mask((B, H, T, T), rate) if rate else None
    return qkv.astype(np.float32).astype(dtype), dy.astype(np.float32).astype(dtype), keep


def device_mask(shape: tuple[int, ...], rate: float) -> Any:
    from nanograd_gpt.backend import cuda

    B, T, H, _ = shape
    return cuda.keep_mask(Generator(T), (B, H, T, T), rate) if rate else None


def by_formula(qkv: Any, dy: Any, H: int, keep: Any, rate: float) -> list[Any]:
    """context, log-sum-exp, dqkv in float64"""
    qkv, dy = qkv.astype(np.float64), dy.astype(np.float64)
    context, lse = plain.causal_attention(qkv, H, keep, rate)
    return [context, lse, plain.causal_attention_backward(dy, qkv, context, lse, H, keep, rate)]


def by_kernels(qkv: Any, dy: Any, H: int, keep: Any, rate: float) -> list[Any]:
    from nanograd_gpt.backend import cuda

    context, lse = cuda.causal_attention(qkv, H, keep, rate)
    return [context, lse, cuda.causal_attention_backward(dy, qkv, context, lse, H, keep, rate)]


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_the_formula_in_every_thread_order(shape: tuple[int, ...], rate: float, on_gpu: OnGPU) -> None:
    qkv, dy, keep = inputs(shape, rate)
    H = shape[2]
    results = same_in_every_order(lambda: by_kernels(*on_gpu(qkv, dy), H, device_mask(shape, rate), rate))
    expected = by_formula(qkv, dy, H, keep, rate)
    for got, exact in zip(results[:2], expected[:2], strict=True):
        assert relative_error(got, exact) < FLOAT32
    for got, exact in zip(np.split(results[2], 3, -1), np.split(expected[2], 3, -1), strict=True):
        if shape[1] > 1:
            assert relative_error(got, exact) < FLOAT32
        else:  # dQ and dK of a single token are 0, but for rounding
            assert np.abs(got - exact).max() < FLOAT32 * np.abs(dy).max()


def test_bools_drop_what_a_recipe_drops(on_gpu: OnGPU) -> None:
    shape = 2, 77, 2, 32
    qkv, dy, keep = inputs(shape, 0.5)
    qkv, dy, keep = on_gpu(qkv, dy, keep)
    ours = by_kernels(qkv, dy, 2, device_mask(shape, 0.5), 0.5)
    for a, b in zip(ours, by_kernels(qkv, dy, 2, keep, 0.5), strict=True):
        np.testing.assert_array_equal(to_host(a), to_host(b))


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 33, 2, 32), (1, 70, 1, 64), (1, 37, 1, 100)], ids=str)
def test_gradients_are_the_central_differences_of_the_kernels_own_values(
    shape: tuple[int, ...], rate: float, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend import cuda

    qkv, dy, _ = inputs(shape, rate)
    mask, H, h = device_mask(shape, rate), shape[2], 2**-6

    def loss(x: Any) -> float:
        context = to_host(cuda.causal_attention(on_gpu(x), H, mask, rate)[0])
        return float((context.astype(np.float64) * dy).sum())

    dqkv = to_host(by_kernels(*on_gpu(qkv, dy), H, mask, rate)[2])
    for part in range(3):
        direction = np.zeros_like(dqkv)
        columns = slice(part * dy.shape[-1], (part + 1) * dy.shape[-1])
        direction[..., columns] = dqkv[..., columns] / np.linalg.norm(dqkv[..., columns])
        difference = (loss(qkv + h * direction) - loss(qkv - h * direction)) / (2 * h)
        assert difference == pytest.approx(np.linalg.norm(dqkv[..., columns]), rel=1e-3)


def test_large_scores_neither_overflow_nor_lose_a_key(on_gpu: OnGPU) -> None:
    qkv, dy, _ = inputs((1, 70, 2, 32), 0.0)
    qkv[..., : 2 * 64] *= 30  # queries and keys: scores of thousands
    context, lse, dqkv = by_kernels(*on_gpu(qkv, dy), 2, None, 0.0)
    exact, exact_lse, exact_dqkv = by_formula(qkv, dy, 2, None, 0.0)
    assert relative_error(lse, exact_lse) < FLOAT32
    in_float32 = plain.causal_attention(qkv, 2, None, 0.0)  # a score of thousands is known to 1e-4 only
    for got, expected, formula in (
        (context, exact, in_float32[0]),
        (dqkv, exact_dqkv, plain.causal_attention_backward(dy, qkv, *in_float32, 2, None, 0.0)),
    ):
        assert relative_error(got, expected) < 4 * relative_error(formula, expected)


def test_a_key_that_is_nan_shows_in_its_own_and_later_tokens_only(on_gpu: OnGPU) -> None:
    qkv, dy, _ = inputs((1, 70, 1, 32), 0.0)
    qkv[0, 40, 32:64] = np.nan
    context = to_host(by_kernels(*on_gpu(qkv, dy), 1, None, 0.0)[0])
    assert np.isfinite(context[0, :40]).all()
    assert np.isnan(context[0, 40:]).all()


def test_with_a_recipe_a_layer_is_four_launches_and_no_wait(on_gpu: OnGPU, simulator: Record) -> None:
    shape = 1, 33, 2, 64
    qkv, dy, keep = inputs(shape, 0.25)
    x, dy_ = Tensor(on_gpu(qkv), requires_grad=True), on_gpu(dy)
    simulator.uploads.clear()
    y = F.causal_attention(x, 2, device_mask(shape, 0.25), 0.25)
    y.backward(dy_)
    assert (simulator.syncs, simulator.uploads) == ([], [])
    backward = ["attention_backward_q<64,4>", "attention_backward_kv<64,4>"]
    assert simulator.launches == ["mask_bits", "attention_forward<64>", *backward]
    assert relative_error(x.grad, by_formula(qkv, dy, 2, keep, 0.25)[2]) < FLOAT32


def test_nothing_of_the_size_of_the_scores_is_allocated(on_gpu: OnGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    made, empty = [], cupy.empty
    qkv, dy = on_gpu(*inputs((1, 130, 1, 32), 0.0)[:2])
    monkeypatch.setattr(cupy, "empty", lambda shape, **kwargs: made.append(shape) or empty(shape, **kwargs))
    by_kernels(qkv, dy, 1, device_mask((1, 130, 1, 32), 0.5), 0.5)
    assert sorted(made) == [(1, 1, 130, 1), (1, 1, 130, 1), (1, 1, 130, 5), (1, 130, 32), (1, 130, 96)]


@pytest.mark.parametrize("kind", ["float64", "a wide head", "a small GPU", "dy is a view"])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_what_the_kernels_do_not_take_goes_by_the_formula(
    kind: str, rate: float, on_gpu: OnGPU, monkeypatch: pytest.MonkeyPatch, simulator: Record
) -> None:
    from nanograd_gpt.backend.cuda import attention

    if kind == "a small GPU":
        monkeypatch.setattr(attention, "most_shared_bytes", lambda: 48 << 10)
    shape = 2, 9, 2, (130 if kind == "a wide head" else 64)
    dtype = np.float64 if kind == "float64" else np.float32
    qkv, dy, keep = inputs(shape, rate, dtype)
    dy_ = on_gpu(np.ascontiguousarray(dy.swapaxes(0, 1))).swapaxes(0, 1) if kind == "dy is a view" else on_gpu(dy)
    results = by_kernels(on_gpu(qkv), dy_, 2, device_mask(shape, rate), rate)
    for got, exact in zip(results, by_formula(qkv, dy, 2, keep, rate), strict=True):
        assert relative_error(got, exact) < (1e-12 if kind == "float64" else FLOAT32)
    attended = [name for name in simulator.launches if name.startswith("attention")]
    assert attended == (["attention_forward<64>"] if kind == "dy is a view" else [])


@pytest.mark.parametrize("shape", [(0, 5, 2, 32), (2, 0, 2, 32)], ids=["no rows", "no tokens"])
def test_an_empty_batch_is_no_launch(shape: tuple[int, ...], on_gpu: OnGPU, simulator: Record) -> None:
    B, T, H, D = shape
    qkv, dy = on_gpu(np.zeros((B, T, 3 * H * D), np.float32), np.zeros((B, T, H * D), np.float32))
    shapes = [array.shape for array in by_kernels(qkv, dy, H, device_mask(shape, 0.5), 0.5)]
    assert shapes == [(B, T, H * D), (B, H, T, 1), (B, T, 3 * H * D)]
    assert simulator.launches == []


TILES = "for (int key = 0; key < min(T, first + ROWS); key += COLS) {\n        __syncthreads();  //"
BUGS = {
    "a later key is seen": ("bool seen = key + at.col + c * LANES <=", "bool seen = key + at.col + c * LANES <= 1 +"),
    "a tile too few": (TILES, TILES.replace("ROWS)", "ROWS) - COLS")),
    "the sum is not shrunk": ("total[r] *= shrink;", ";"),
    "the context is not shrunk": ("sums[r][i] *= shrink;", ";"),
    "rows beyond the last": ("if (first + i < T && d < width)", "if (d < width)"),
    "a row's lanes have their own largest": ("top = max_of_row<LANES>(top);", ""),
    "the sum of one lane's columns": ("float sum = sum_of_row<LANES>(total[r]);", "float sum = total[r];"),
    "delta is a lane's": ("delta_[r] = sum_of_row<LANES>(sum);", "delta_[r] = sum;"),
    "another word of the mask": ("min(first / COLS + i % WORDS, W - 1)", "min(first / COLS, W - 1)"),
    "dV of what was dropped": ("+ col] = weight * factor;", "+ col] = weight;"),
    "dK without its scale": ("store_row<D>(to + size, dk[r], scale,", "store_row<D>(to + size, dk[r], 1.0f,"),
    "a float between rows too few": ("tile + (k + i) * PITCH<D> + j", "tile + (k + i) * (PITCH<D> - 4) + j"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "attention.cu", right, wrong), caught():
        test_attention_is_the_formula_in_every_thread_order((2, 77, 2, 32), 0.3, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    qkv, dy, _ = inputs((1, 70, 1, 8), 0.0)

    def run() -> Any:
        return by_kernels(*on_gpu(qkv, dy), 1, None, 0.0)

    assert races_of(run) == []
    barrier = "__syncthreads();  // the tile before may still be read"
    with planted(FOLDER / "attention.cu", barrier, ""):
        assert races_of(run) != []
