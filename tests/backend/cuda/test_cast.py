"""backend/cuda/cast.cu and what takes its results: products and attention in each precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cusim.checks import caught, needs_compiler, planted, relative_error, same_in_every_order
from ml_dtypes import bfloat16
from standin.record import Record

from nanograd_gpt import AdamW, GPTModel
from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import loss as plain
from nanograd_gpt.backend.precision import set_precision
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.rng import Generator

pytestmark = needs_compiler
OnGPU = Callable[..., Any]
CONFIG = GPTConfig(vocab_size=61, context_length=48, emb_dim=32, n_heads=2, n_layers=2, drop_rate=0.1)


@pytest.fixture(autouse=True)
def _precision_as_before() -> Iterator[None]:
    yield
    set_precision("fp32")


@pytest.mark.parametrize("size", [1, 7, 8, 9, 2048, 2055, 5000])
def test_casts_round_to_the_nearest_and_back_exactly(size: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.cast import to_bf16, to_float

    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    x[0] = np.float32(1 + 2**-8)  # a tie
    (rounded,) = same_in_every_order(lambda: to_bf16(on_gpu(x)).view(np.uint16))
    np.testing.assert_array_equal(rounded, x.astype(bfloat16).view(np.uint16))
    (back,) = same_in_every_order(lambda: to_float(to_bf16(on_gpu(x))))
    np.testing.assert_array_equal(back, x.astype(bfloat16).astype(np.float32))


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("y[k].bits = bf16_bits(x[k]);", "y[k].bits = 0;"),
        ("pack_bf16(b.x[2], b.x[3])", "pack_bf16(b.x[3], b.x[2])"),
        ("halves[k / 2].x[k % 2 * 2 + 1] = __uint_as_float(bits.x[k] & 0xffff0000u);", ""),
    ],
)
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "cast.cu", right, wrong), caught():
        test_casts_round_to_the_nearest_and_back_exactly(2055, on_gpu)


def trained(device: Any, dtype: Any, n: int) -> tuple[list[float], list[Any], list[Any]]:
    """The losses of n updates, the gradients of the last, and the parameters."""
    model = GPTModel(CONFIG, rng=Generator(3)).to(device, dtype)
    optimizer, losses = AdamW(model.parameters(), lr=1e-3), []
    for i in range(n):
        ids, targets = random_batch(CONFIG, 3, 40, seed=i)
        optimizer.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        losses.append(float(loss))
        gradients = [to_host(p.grad) for p in model.parameters()]
        optimizer.step(1.0)
    return losses, gradients, [to_host(p.data) for p in model.parameters()]


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-6), ("tf32", 3e-3), ("bf16", 1e-2)])
def test_a_training_in_each_precision_is_near_the_cpus_in_float64(precision: str, tolerance: float) -> None:
    losses, exact_gradients, _ = trained("cpu", np.float64, 3)
    set_precision(precision)
    got, gradients, _ = trained("cuda", np.float32, 3)
    np.testing.assert_allclose(got, losses, rtol=tolerance)
    for a, b in zip(gradients, exact_gradients, strict=True):
        assert relative_error(a, b) < 10 * tolerance


@pytest.mark.parametrize("V", [64, 61, 130])
def test_a_head_in_bf16_has_the_loss_and_gradients_of_the_formula(V: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    set_precision("bf16")
    rng, N, C = np.random.default_rng(V), 70, 24
    x, weight = rng.standard_normal((N, C)).astype(np.float32), rng.standard_normal((V, C)).astype(np.float32)
    targets = rng.integers(0, V, N)

    def run() -> list[Any]:
        x_, weight_, targets_, dloss = on_gpu(x, weight, targets, np.array(2.0, np.float32))
        dweight = on_gpu(np.zeros((V, C), np.float32))
        loss, lse, kept = cuda.linear_cross_entropy(x_, weight_, targets_, True)
        into = GradOut(dweight, accumulate=False)
        dx = cuda.linear_cross_entropy_backward(dloss, x_, weight_, targets_, lse, kept, into, True)
        return [loss, dx, dweight]

    loss, dx, dweight = same_in_every_order(run)
    exact_x, exact_weight = x.astype(np.float64), weight.astype(np.float64)
    exact, lse, _ = plain.linear_cross_entropy(exact_x, exact_weight, targets, True)
    exact_dweight = GradOut(np.zeros((V, C)), accumulate=False)
    arguments = np.array(2.0), exact_x, exact_weight, targets, lse, None, exact_dweight, True
    exact_dx = plain.linear_cross_entropy_backward(*arguments)
    assert relative_error(loss, np.asarray(exact)) < 3e-3
    assert exact_dx is not None
    assert relative_error(dx, exact_dx) < 1e-2
    assert relative_error(dweight, exact_dweight.array) < 1e-2


@pytest.mark.usefixtures("standin")
def test_a_training_in_bf16_has_the_same_bits_twice() -> None:
    set_precision("bf16")
    first, second = (trained("cuda", np.float32, 2) for _ in range(2))
    assert first[0] == second[0]
    for a, b in zip(first[2], second[2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_products_and_attention_of_a_step_in_bf16_are_in_bf16(
    simulator: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanograd_gpt.backend.cuda import loss, matmul

    kinds, gemm = [], matmul.gemm

    def noted(a: Any, b: Any, out: Any, kind: Any, **more: Any) -> None:
        kinds.append(kind)
        gemm(a, b, out, kind, **more)

    for module in (loss, matmul):
        monkeypatch.setattr(module, "gemm", noted)
    set_precision("bf16")
    simulator.launches.clear()
    trained("cuda", np.float32, 1)
    assert set(kinds) == {"bf16"}
    assert len(kinds) == 3 * (4 * CONFIG.n_layers + 1) + 1  # the 61 rows of the head's gradient are 56 and 5
    attention = [name for name in simulator.launches if "attention" in name]
    assert len(attention) == 3 * CONFIG.n_layers
    assert all("bf16" in name for name in attention)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 35), ("bf16", 35)])
def test_a_layer_of_a_step_has_few_launches_and_nothing_waits(precision: str, most: int, simulator: Record) -> None:
    """Forward and backward together, our kernels and products."""
    set_precision(precision)
    counts = []
    for n_layers in (1, 2):
        config = replace(CONFIG, n_layers=n_layers)
        model = GPTModel(config, rng=Generator(3)).to("cuda")
        optimizer, (ids, targets) = AdamW(model.parameters()), random_batch(config, 3, 40)
        for _ in range(2):
            for noted in (simulator.launches, simulator.cublaslt.products, simulator.syncs):
                noted.clear()
            optimizer.zero_grad()
            model.loss(ids, targets).backward()
            optimizer.step(1.0)
        assert simulator.syncs == []
        counts.append(len(simulator.launches) + len(simulator.cublaslt.products))
    assert counts[1] - counts[0] <= most
    assert 2 * counts[0] - counts[1] <= 60
