"""backend/cuda/embedding.cu on the simulator, against plain/embedding.py in float64."""

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

from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import embedding as plain
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

pytestmark = needs_compiler

CHANNELS = [5, 37, 40, 256, 768]
OnGPU = Callable[..., Any]


def few(N: int, V: int) -> Any:
    """ids (N,), the first and the last of the vocabulary among them."""
    ids = np.random.default_rng([N, V]).integers(0, V, N)
    ids[0], ids[-1] = V - 1, 0
    return ids


def with_runs() -> Any:
    """ids (200,): runs that end within, at and one after a window's end, and one over four windows."""
    ids = np.repeat([0, 1, 2, 3, 4, 5], [31, 1, 32, 33, 90, 13])
    return np.random.default_rng(1).permutation(ids)


def table(V: int, C: int) -> Any:
    return np.random.default_rng([V, C]).standard_normal((V, C)).astype(np.float32)


def gradient_of(on_gpu: OnGPU, ids: Any, V: int, C: int, accumulate: bool) -> Any:
    from nanograd_gpt.backend import cuda

    dy, ids_, dweight = on_gpu(table(ids.size, C).reshape(*ids.shape, C), ids, np.ones((V, C), np.float32))
    cuda.embedding_backward(dy, ids_, GradOut(dweight, accumulate))
    return dweight


def exact_gradient(ids: Any, V: int, C: int, accumulate: bool) -> Any:
    dweight = np.ones((V, C))
    plain.embedding_backward(
        table(ids.size, C).reshape(*ids.shape, C).astype(np.float64), ids, GradOut(dweight, accumulate)
    )
    return dweight


# Lookup


@pytest.mark.parametrize("C", CHANNELS)
@pytest.mark.parametrize("shape", [(1,), (31,), (3, 11), (130,), (0,), (2, 0)], ids=str)
def test_the_lookup_gives_the_rows_in_every_thread_order(shape: tuple[int, ...], C: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    weight, ids = table(11, C), np.random.default_rng(C).integers(0, 11, shape)
    (y,) = same_in_every_order(lambda: cuda.embedding(*on_gpu(weight, ids)))
    np.testing.assert_array_equal(y, weight[ids])


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64])
def test_ids_may_be_of_any_integers_and_begin_anywhere(dtype: Any, on_gpu: OnGPU) -> None:
    weight, ids = on_gpu(table(11, 8)), np.arange(12)[::-1].astype(dtype) % 11
    for view in (slice(None), slice(1, None), slice(None, None, 2)):
        x = Tensor(weight, requires_grad=True)
        y = F.embedding(on_gpu(ids)[view], x)
        np.testing.assert_array_equal(to_host(y.data), table(11, 8)[ids[view]])
        y.sum().backward()
        np.testing.assert_array_equal(to_host(x.grad)[:, 0], np.bincount(ids[view], minlength=11))


# Gradient


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(
    ("ids", "V", "C"),
    [
        *[(few(n, 11), 11, 40) for n in (1, 2, 31, 32, 33, 130)],
        *[(with_runs(), 7, c) for c in CHANNELS],
        (few(99, 50000).reshape(3, 33), 50000, 5),
        (np.zeros(257, np.int64), 1, 37),
        (np.arange(64), 64, 8),
    ],
    ids=lambda value: f"{value.shape}" if isinstance(value, np.ndarray) else None,
)
def test_the_gradient_is_the_sum_by_id_in_every_thread_order(
    ids: Any, V: int, C: int, accumulate: bool, on_gpu: OnGPU
) -> None:
    (got,) = same_in_every_order(lambda: gradient_of(on_gpu, ids, V, C, accumulate))
    assert relative_error(got, exact_gradient(ids, V, C, accumulate)) < FLOAT32


@pytest.mark.parametrize("N", [2047, 2048, 2049, 4500])
def test_many_ids_are_sorted_in_tiles_and_merged(N: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.embedding import sorted_places

    ids = few(N, 300)
    (order,) = same_in_every_order(lambda: sorted_places(on_gpu(ids), N, 300))
    places = np.argsort(ids, kind="stable")
    np.testing.assert_array_equal(order, ids[places].astype(np.uint64) << np.uint64(32) | places.astype(np.uint64))
    assert relative_error(gradient_of(on_gpu, ids, 300, 8, False), exact_gradient(ids, 300, 8, False)) < FLOAT32


def test_the_rows_of_an_id_are_added_in_order_in_pieces_of_a_window(on_gpu: OnGPU) -> None:
    """Numbers of which another order of additions would have other bits."""
    ids, C = with_runs(), 8
    dy = (table(200, C) * 10 ** np.random.default_rng(2).uniform(-4, 4, (200, 1))).astype(np.float32)
    from nanograd_gpt.backend import cuda

    dweight = on_gpu(np.empty((7, C), np.float32))
    cuda.embedding_backward(*on_gpu(dy, ids), GradOut(dweight, False))
    places, expected = np.argsort(ids, kind="stable"), np.zeros((7, C), np.float32)
    for i in range(7):
        parts = [np.zeros(C, np.float32) for _ in range(7)]
        for rank, place in enumerate(places):
            if ids[place] == i:
                parts[rank // 32] += dy[place]
        for part in (part for part in parts if part.any()):
            expected[i] += part
    np.testing.assert_array_equal(to_host(dweight), expected)


@pytest.mark.parametrize("accumulate", [False, True])
def test_ids_out_of_range_give_nan_and_no_gradient(accumulate: bool, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    ids, weight = np.array([3, -1, 2**40, 5, 2**32, *[-7] * 70, 2]), table(5, 8)
    y = to_host(cuda.embedding(*on_gpu(weight, ids)))
    inside = (ids >= 0) & (ids < 5)
    np.testing.assert_array_equal(y[inside], weight[ids[inside]])
    assert np.isnan(y[~inside]).all()
    dweight = on_gpu(np.ones((5, 8), np.float32))
    cuda.embedding_backward(*on_gpu(np.full((len(ids), 8), 2, np.float32), ids), GradOut(dweight, accumulate))
    expected = np.array([0, 0, 2, 2, 0]) + accumulate
    np.testing.assert_array_equal(to_host(dweight), np.repeat(expected[:, None], 8, axis=1))


def test_a_gradient_that_is_broadcast_is_summed_by_the_kernels_too(on_gpu: OnGPU, simulator: Record) -> None:
    x = Tensor(on_gpu(table(7, 40)), requires_grad=True)
    F.embedding(on_gpu(with_runs()), x).sum().backward()
    assert "sum_pieces<float>" in simulator.launches
    counts = np.bincount(with_runs(), minlength=7)
    np.testing.assert_array_equal(to_host(x.grad), np.repeat(counts[:, None], 40, axis=1))


def test_arrays_in_float64_and_no_ids_take_the_plain_formulas(on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    weight, ids = table(11, 8).astype(np.float64), few(33, 11)
    np.testing.assert_array_equal(to_host(cuda.embedding(*on_gpu(weight, ids))), weight[ids])
    dweight = on_gpu(np.ones((11, 8)))
    cuda.embedding_backward(*on_gpu(weight[ids], ids), GradOut(dweight, True))
    expected = np.ones((11, 8))
    plain.embedding_backward(weight[ids], ids, GradOut(expected, True))
    np.testing.assert_array_equal(to_host(dweight), expected)
    none = on_gpu(np.ones((11, 8), np.float32))
    cuda.embedding_backward(*on_gpu(np.empty((0, 8), np.float32), ids[:0]), GradOut(none, False))
    assert not to_host(none).any()
    assert simulator.launches == []


@pytest.mark.parametrize(
    ("N", "launches"),
    [
        (32, ["sort_tiles", "sum_pieces<float>"]),
        (33, ["sort_tiles", "sum_pieces<float>", "sum_runs"]),
        (2049, ["sort_tiles", "merge_tiles", "sum_pieces<float>", "sum_runs"]),
    ],
)
def test_a_lookup_is_one_launch_its_gradient_four_and_the_host_never_waits(
    N: int, launches: list[str], on_gpu: OnGPU, simulator: Record
) -> None:
    weight, ids = Tensor(on_gpu(table(11, 8)), requires_grad=True), on_gpu(few(N, 11))
    simulator.syncs.clear()
    simulator.uploads.clear()
    F.embedding(ids, weight).sum().backward()
    assert simulator.launches == ["embedding<float>", *launches]
    assert simulator.syncs == []


# Planted bugs and races

BUGS = {
    "a row too many": ("if (n >= N) return;", "if (n > N) return;"),
    "rows are not aligned": (
        "if (C % Pack<T>::N == 0) {\n        for (int c = lane", "if (true) {\n        for (int c = lane"),
    "the last steps of a run's sort": ("distance > 0; distance /= 2", "distance > 1; distance /= 2"),
    "all runs ascend": ("(low & run) == 0", "true"),
    "a tile's rank among its own": (
        "rank += count_below(tiles + first, n, key);",
        "rank += first / TILE == i / TILE ? 0 : count_below(tiles + first, n, key);"),
    "equal ids from the last place on": (
        "known << 32 | static_cast<Key>(place)", "known << 32 | static_cast<Key>(N - place)"),
    "a run is not cleared": ("            sum = {};\n", ""),
    "a run that began before is added at once": ("if (began_before && id == id_of(keys[0])) {", "if (false) {"),
    "a run that goes on is added at once": ("} else if (goes_on && last) {", "} else if (false) {"),
    "the last of a run's parts": ("k <= more; ++k", "k < more; ++k"),
    "the first of a run's parts": (
        "parts + (2 * window + 1) * C, column, C);\n    long", "parts + 2 * window * C, column, C);\n    long"),
    "every window adds a run": ("!goes_on || began_before ||", "!goes_on ||"),
    "columns beyond C": ("column + k < C) row[column + k] =", "true) row[column + k] ="),
    "the sum in place of what was there": ("    add(sum, columns);\n    store", "    sum = columns;\n    store"),
}  # fmt: skip


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "embedding.cu", right, wrong), caught():
        test_the_lookup_gives_the_rows_in_every_thread_order((31,), 5, on_gpu)
        test_the_gradient_is_the_sum_by_id_in_every_thread_order(with_runs(), 7, 5, True, on_gpu)
        test_many_ids_are_sorted_in_tiles_and_merged(2049, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    def run() -> Any:
        return gradient_of(on_gpu, with_runs(), 7, 12, True)

    assert races_of(run) == []
    barrier = "            }\n            __syncthreads();"
    with planted(FOLDER / "embedding.cu", barrier, barrier.replace("__syncthreads();", "")):
        assert races_of(run) != []
