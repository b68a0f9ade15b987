"""The number of threads, and a repeat, change no bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import AdamWNumbers, Array, GradOut
from nanograd_gpt.backend.cpu import blocks, loss, matmul, threads
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.moved_rows import MovedRows
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator

RNG = np.random.default_rng(8)
N, C, B, T, H = 1500, 768, 2, 256, 12  # above what one thread does alone


def random(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def sinks() -> tuple[GradOut, GradOut]:
    return GradOut(np.empty(C, np.float32), False), GradOut(np.empty(C, np.float32), False)


def layer_norm_backward() -> Callable[[], Any]:
    x, dy, scale, shift = random(N, C), random(N, C), random(C), random(C)
    _, mean, rstd = cpu.layer_norm(x, scale, shift, 1e-5)

    def run() -> Any:
        dscale, dshift = sinks()
        return cpu.layer_norm_backward(dy, x, scale, mean, rstd, dscale, dshift, None), dscale.array, dshift.array

    return run


def attention() -> Callable[[], Any]:
    qkv, dy, keep = random(B, T, 3 * C), random(B, T, C), RNG.random((B, H, T, T)) < 0.9

    def run() -> Any:
        context, lse = cpu.causal_attention(qkv, H, keep, 0.1)
        return context, lse, cpu.causal_attention_backward(dy, qkv, context, lse, H, keep, 0.1)

    return run


def softmax_in_place() -> Callable[[], Any]:
    logits, targets = random(300, 5000), RNG.integers(0, 5000, 300)

    def run() -> Any:
        place, losses, lse = logits.copy(), np.empty(300, np.float32), np.empty((300, 1), np.float32)
        loss._softmax(place, targets, losses, lse, 1 / 300)
        return place, losses, lse

    return run


def adamw() -> Callable[[], Any]:
    start = [RNG.random(2_000_000).astype(np.float32) for _ in range(4)]

    def run() -> Any:
        arrays = [a.copy() for a in start]
        cpu.adamw(*arrays, np.array(AdamWNumbers.at_step(3, 1e-3, (0.9, 0.999), eps=1e-8, weight_decay=0.1)), None)
        return arrays

    return run


def adamw_by_rows() -> Callable[[], Any]:
    rows = MovedRows(8000)
    rows.marked[RNG.integers(0, 8000, 3000)] = True
    start = random(8000, C), *(random(8000, C) ** 2 * rows.marked[:, None] for _ in range(3))
    numbers = np.array(AdamWNumbers.at_step(3, 1e-3, (0.9, 0.999), eps=1e-8, weight_decay=0.1))

    def run() -> Any:
        arrays, all_rows = [a.copy() for a in start], [a.reshape(-1).copy() for a in start]
        rows.update(cpu, arrays, numbers, None)
        cpu.adamw(*all_rows, numbers, None)
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in all_rows]
        return arrays

    return run


X, SCALE, KEEP, LONG = random(N, C), random(C), RNG.random((N, C)) < 0.9, random(2_000_000)
MATRIX = random(matmul.MIN_SHARED_MATRIX // C + 9 * matmul.GIL_KEPT, C)
LONG_ROWS = random(777, matmul.MIN_GEMV_COLUMN)
FEW_LONG_ROWS = random(349, 3000)  # not shared, but long enough for BLAS's own threads
KERNELS: dict[str, Callable[[], Any]] = {
    "LayerNorm": lambda: cpu.layer_norm(X, SCALE, SCALE, 1e-5),
    "LayerNorm, backward": layer_norm_backward(),
    "GELU": lambda: cpu.gelu(X, True),
    "attention": attention(),
    "dropout": lambda: cpu.dropout_add(X, KEEP, 0.1, X),
    "linear, one row": lambda: cpu.linear(X[:1], MATRIX, None),
    "linear, one row of many channels": lambda: cpu.linear(LONG[None, : LONG_ROWS.shape[1]], LONG_ROWS, None),
    "linear, one row of many channels, few outputs": lambda: cpu.linear(LONG[None, :3000], FEW_LONG_ROWS, None),
    "softmax in place": softmax_in_place(),
    "AdamW": adamw(),
    "AdamW by rows": adamw_by_rows(),
    "squared norm": lambda: cpu.clip_scale([LONG], 1.0),
}


@pytest.fixture(autouse=True)
def _shared_by_as_many_threads_as_are_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = threads.n_threads()
    monkeypatch.setattr(threads, "MIN_HAND_OVERS", 0)
    yield
    threads.set_threads(before)


def bits(result: Any) -> list[bytes]:
    return [np.asarray(a).tobytes() for a in (result if isinstance(result, tuple | list) else [result])]


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_a_kernel_gives_the_same_bits_with_any_number_of_threads_and_every_time(kernel: Callable[[], Any]) -> None:
    results = []
    for number in (1, 2, 2, 3, 4, 8):
        threads.set_threads(number)
        results.append(bits(kernel()))
    assert results.count(results[0]) == 6


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kernel_gives_the_same_bits_shared_or_not(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of one head, too, of a size at which the library's bits depend on its threads."""
    threads.set_threads(number)
    qkv, dy = random(1, 1000, 300), random(1, 1000, 100)
    results = []
    for hand_overs in (0, 1e9):
        monkeypatch.setattr(threads, "MIN_HAND_OVERS", hand_overs)
        context, lse = cpu.causal_attention(qkv, 1, None, 0.0)
        results.append(bits([context, lse, cpu.causal_attention_backward(dy, qkv, context, lse, 1, None, 0.0)]))
    assert results[0] == results[1]


@pytest.mark.parametrize("number", [1, 2])
def test_a_training_gives_the_same_bits_every_time_whatever_is_shared(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads.set_threads(number)
    ids, chosen = np.random.default_rng(0).integers(0, 300, (4, 65)), np.random.default_rng(1)
    weights = []
    for decide in (threads.is_long_enough, threads.is_long_enough, lambda _: chosen.random() < 0.5):
        monkeypatch.setattr(blocks, "is_long_enough", decide)  # a measured time decides
        model = GPTModel(
            {"vocab_size": 300, "context_length": 64, "emb_dim": 96, "n_heads": 3, "n_layers": 2, "drop_rate": 0.1},
            rng=Generator(1),
        )
        optimizer = AdamW(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            optimizer.step()
        weights.append(optimizer.flat.data.tobytes())
    assert weights[0] == weights[1] == weights[2]
