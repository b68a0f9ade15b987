"""backend/cuda/dropout.cu on the simulator, against the masks that rng/ draws and plain/dropout.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backend.cuda.gpt_with_dropout import CONFIG
from cusim.checks import (
    FLOAT32,
    caught,
    needs_compiler,
    planted,
    races_of,
    relative_error,
    same_in_every_order,
)
from cusim.races import host_array
from standin.record import Record

from nanograd_gpt.backend.plain import dropout as plain
from nanograd_gpt.backend.select import Device, to_device, to_host
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator, TorchStream
from nanograd_gpt.tensor import Tensor

pytestmark = needs_compiler

SHAPES = [(1,), (15,), (16,), (511,), (512,), (4097,), (3, 5, 37), (0, 4)]
RATES = [0.0, 0.1, 0.5]
SEEDS = [(0, 0), (123, 4), (2**63 + 11, 2**64 - 1)]  # with a stream
OnGPU = Callable[..., Any]


def numbers(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def drawn(shape: tuple[int, ...], rate: float, seed: tuple[int, int] = SEEDS[1]) -> tuple[Any, Any]:
    """The third mask of a stream, by the device and by the CPU."""
    from nanograd_gpt.backend import cuda

    ours, theirs = Generator(*seed), Generator(*seed)
    for _ in range(3):
        pair = cuda.keep_mask(ours, shape, rate), theirs.keep_mask(shape, rate)
    assert ours.state() == theirs.state()
    return pair


def unpacked(words: Any, T: int) -> Any:
    """uint32 (..., W)  ->  bools (..., T)"""
    return np.unpackbits(to_host(words).view(np.uint8), axis=-1, bitorder="little")[..., :T].astype(bool)


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("seed", SEEDS, ids=str)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_mask_has_the_bits_of_the_cpus(shape: tuple[int, ...], rate: float, seed: tuple[int, int]) -> None:
    mask, exact = drawn(shape, rate, seed)
    (bools,) = same_in_every_order(lambda: drawn(shape, rate, seed)[0].bools)
    np.testing.assert_array_equal(bools, exact)
    assert (mask.shape, mask.dtype, bools.dtype) == (exact.shape, exact.dtype, exact.dtype)


@pytest.mark.usefixtures("standin")
def test_the_call_is_the_counters_third_word_at_any_number_of_calls() -> None:
    from nanograd_gpt.backend import cuda

    state = {"kind": "philox", "seed": 7, "stream": 8, "calls": 2**63 + 5}
    ours, theirs = Generator(), Generator()
    for generator in (ours, theirs):
        generator.set_state(state)
    mask: Any = cuda.keep_mask(ours, (99,), 0.3)
    np.testing.assert_array_equal(to_host(mask.bools), theirs.keep_mask((99,), 0.3))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("T", [1, 16, 31, 32, 33, 64, 77])
def test_attentions_bits_are_the_cpus_up_to_each_query(T: int, rate: float, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.dropout import causal_bits

    shape = 2, 3, T, T
    _, exact = drawn(shape, rate)
    seen = np.tri(T, dtype=bool)  # words after a query's are not written
    (from_recipe,) = same_in_every_order(lambda: unpacked(host_array(causal_bits(drawn(shape, rate)[0])), T)[..., seen])
    (from_bools,) = same_in_every_order(lambda: causal_bits(on_gpu(exact)))
    np.testing.assert_array_equal(from_recipe, exact[..., seen])
    np.testing.assert_array_equal(unpacked(from_bools, T), exact)


@pytest.mark.parametrize("added", [False, True], ids=["dropout", "dropout_add"])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dropout_is_the_formula_in_every_thread_order(
    shape: tuple[int, ...], rate: float, added: bool, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend import cuda

    x, residual = numbers(shape, 1), numbers(shape, 2)

    def run() -> Any:
        mask, _ = drawn(shape, rate)
        return (
            cuda.dropout_add(on_gpu(x), mask, rate, on_gpu(residual)) if added else cuda.dropout(on_gpu(x), mask, rate)
        )

    (got,) = same_in_every_order(run)
    x, residual, exact = x.astype(np.float64), residual.astype(np.float64), drawn(shape, rate)[1]
    expected = plain.dropout_add(x, exact, rate, residual) if added else plain.dropout(x, exact, rate)
    assert got.dtype == np.float32
    assert relative_error(got, expected) < FLOAT32


def test_what_is_dropped_is_exactly_0_unless_it_is_not_finite(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    mask, exact = drawn((640,), 0.5)
    x = numbers((640,))
    x[::64] = np.nan
    y = to_host(cuda.dropout(on_gpu(x), mask, 0.5))
    assert np.isnan(y[::64]).all()
    assert (y[~exact & np.isfinite(x)] == 0).all()


@pytest.mark.parametrize("kind", ["float64", "transposed", "unaligned"])
def test_what_the_kernel_does_not_take_is_dropped_by_the_formula(kind: str, on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    x = numbers((24, 40)) if kind != "float64" else numbers((24, 40)).astype(np.float64)
    device = {"transposed": lambda: on_gpu(x.T.copy()).T, "unaligned": lambda: on_gpu(np.r_[0, x.ravel()])[1:]}
    given = device.get(kind, lambda: on_gpu(x))().astype(x.dtype, copy=False).reshape(24, 40)
    mask, exact = drawn((24, 40), 0.25)
    assert relative_error(cuda.dropout(given, mask, 0.25), plain.dropout(x, exact, 0.25)) < 1e-7
    assert relative_error(cuda.dropout_add(given, mask, 0.25, given), plain.dropout_add(x, exact, 0.25, x)) < 1e-7
    assert simulator.launches == ["mask_bools"]  # once


def test_another_streams_mask_is_drawn_on_the_host(on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    mask, exact = cuda.keep_mask(TorchStream(5), (9, 9), 0.5), TorchStream(5).keep_mask((9, 9), 0.5)
    x = numbers((9, 9))
    np.testing.assert_array_equal(to_host(mask), exact)
    np.testing.assert_array_equal(to_host(cuda.dropout(on_gpu(x), mask, 0.5)), plain.dropout(x, exact, 0.5))
    assert simulator.launches == []


def test_forward_and_backward_are_a_launch_each_without_a_mask_in_memory(on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    x, residual = (Tensor(on_gpu(numbers((6, 40), seed)), requires_grad=True) for seed in (1, 2))
    simulator.uploads.clear()
    mask = cuda.keep_mask(Generator(3), (6, 40), 0.5)
    assert (simulator.uploads, simulator.launches) == ([], [])
    F.dropout_add(x, residual, mask, 0.5).backward(on_gpu(np.ones((6, 40), np.float32)))
    assert simulator.launches == ["dropout<float, float>"] * 2
    assert simulator.syncs == []
    exact = Generator(3).keep_mask((6, 40), 0.5)
    np.testing.assert_array_equal(to_host(x.grad), 2.0 * exact)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)], ids=["float32", "float64"])
def test_a_gpt_in_training_drops_what_it_drops_on_the_cpu(dtype: Any, tolerance: float, simulator: Record) -> None:
    ids = np.random.default_rng(1).integers(0, 31, (3, 13))
    losses = []
    devices: tuple[Device, Device] = ("cpu", "cuda")
    for device in devices:
        model = GPTModel(CONFIG, rng=Generator(2**63 + 1)).to(device, dtype).train()
        on_device = to_device(ids, device)
        simulator.uploads.clear()
        losses.append([float(model.loss(on_device[:, :-1], on_device[:, 1:]).data) for _ in range(3)])
    assert not any("bool" in upload for upload in simulator.uploads)
    np.testing.assert_allclose(*losses, rtol=tolerance)
    assert len(set(losses[0])) == 3


BUGS = {
    "the first block is NumPy's 0": ("philox.cuh", "first + block + 1, 0,", "first + block, 0,"),
    "a round too few": ("philox.cuh", "ROUNDS = 10", "ROUNDS = 9"),
    "seed and stream swapped": ("philox.cuh", "{recipe.seed, recipe.stream}", "{recipe.stream, recipe.seed}"),
    "the threshold itself is dropped": ("philox.cuh", "drawn >= recipe", "drawn > recipe"),
    "the bits of another lane": ("dropout.cu", "pack / PACKS)", "lane)"),
    "the end is left out": ("dropout.cu", "i + j < size; ++j) {", "i + j < 0; ++j) {"),
    "the end of the bools is left out": ("dropout.cu", "i + j < size; ++j) keep", "i + j < 0; ++j) keep"),
    "a row that begins within a block": ("dropout.cu", "if (skipped) bits", "if (false) bits"),
    "the later half of the queries": ("dropout.cu", "query = mirrored;", ";"),
    "a word of another row": ("dropout.cu", "keep[i / W * T + key]", "keep[i / W * W + key]"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("file", "right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(file: str, right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / file, right, wrong), caught():
        test_a_mask_has_the_bits_of_the_cpus((3, 5, 37), 0.5, SEEDS[2])
        test_a_mask_has_the_bits_of_the_cpus((2**17,), 0.25, SEEDS[1])  # one of 2^16 values is the threshold
        test_attentions_bits_are_the_cpus_up_to_each_query(77, 0.5, on_gpu)
        test_dropout_is_the_formula_in_every_thread_order((3, 5, 37), 0.5, False, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda
    from nanograd_gpt.backend.cuda.dropout import causal_bits

    def run() -> None:
        mask, exact = drawn((1, 1, 33, 33), 0.5)
        cuda.dropout_add(on_gpu(numbers(exact.shape)), mask, 0.5, on_gpu(numbers(exact.shape)))
        cuda.dropout(on_gpu(numbers(exact.shape).astype(np.float64)), mask, 0.5)
        causal_bits(mask)
        causal_bits(on_gpu(exact))

    assert races_of(run) == []
