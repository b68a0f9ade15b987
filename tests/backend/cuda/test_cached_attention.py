"""backend/cuda/cached_attention.cu on the simulator, against plain/attention.py in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import FLOAT32, caught, needs_compiler, planted, races_of, relative_error, same_in_every_order
from standin.record import Record

from nanograd_gpt.backend.plain import attention as plain
from nanograd_gpt.backend.select import to_host

pytestmark = needs_compiler

OnGPU = Callable[..., Any]
Shape = tuple[int, int, int, int]  # B, T, H, D
ROOM = 5  # slots beyond the last one in use

NEXT_TOKEN = [  # a shape, and the slots in use of each row
    *[((1, 1, 2, 64), [used]) for used in (0, 1, 31, 33, 63, 64, 130, 300)],
    *[((1, 1, 2, 32), [used]) for used in (1, 64, 130)],
    *[((1, 1, 1, 128), [used]) for used in (31, 64, 130)],
    *[((1, 1, 2, D), [77]) for D in (1, 5, 20, 37, 100)],
    ((3, 1, 2, 64), [33, 0, 130]),
    ((3, 1, 1, 37), [64, 300, 1]),
    ((16, 1, 2, 32), [*range(0, 160, 10)]),
]
MORE_TOKENS = [
    ((1, 3, 2, 64), [62]),
    ((1, 33, 1, 32), [64]),
    ((3, 5, 2, 64), [33, 0, 130]),
    ((2, 4, 1, 5), [1, 66]),
]
PROMPTS = [(1, 33, 2, 64), (3, 70, 1, 32), (2, 9, 1, 128), (2, 7, 3, 5)]


def inputs(shape: Shape, used: list[int], dtype: Any = np.float32) -> tuple[Any, ...]:
    """qkv, keys, values, slots and stop; nan where a slot is not in use, which the formula may not see."""
    B, T, H, D = shape
    rng, stop = np.random.default_rng(sum(used) + T), max(used) + T
    qkv = rng.standard_normal((B, T, 3 * H * D)).astype(np.float32).astype(dtype)
    keys, values = rng.standard_normal((2, B, H, stop + ROOM, D)).astype(np.float32).astype(dtype)
    slots = np.array(used)[:, None] + np.arange(T)
    for row, last in enumerate(used):
        keys[row, :, last:] = values[row, :, last:] = np.nan
    return qkv, keys, values, slots, stop


def by_formula(qkv: Any, keys: Any, values: Any, slots: Any, stop: int) -> list[Any]:
    """context, keys and values, in float64"""
    qkv, *memory = (array.astype(np.float64) for array in (qkv, keys, values))
    wide = [np.nan_to_num(array) for array in memory]  # of the formula all slots below stop are to be finite
    context = plain.cached_attention(qkv, *wide, slots, stop)
    new = np.zeros(keys.shape, dtype=bool)
    new[np.arange(len(slots))[:, None], :, slots] = True
    return [context, *(np.where(new, after, before) for before, after in zip(memory, wide, strict=True))]


def by_kernels(qkv: Any, keys: Any, values: Any, slots: Any, stop: int, on_gpu: OnGPU) -> list[Any]:
    from nanograd_gpt.backend import cuda

    qkv, keys, values, slots = on_gpu(qkv, keys, values, slots)
    return [cuda.cached_attention(qkv, keys, values, slots, stop), keys, values]


def check(given: tuple[Any, ...], on_gpu: OnGPU) -> None:
    context, keys, values = same_in_every_order(lambda: by_kernels(*given, on_gpu))
    exact, *memory = by_formula(*given)
    assert relative_error(context, exact) < FLOAT32
    for got, expected in zip((keys, values), memory, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("shape", "used"), NEXT_TOKEN, ids=str)
def test_a_next_token_is_the_formula_in_every_thread_order(
    shape: Shape, used: list[int], on_gpu: OnGPU, standin: Record | None
) -> None:
    check(inputs(shape, used), on_gpu)
    if standin is not None:
        D = next(D for D in (32, 64, 128) if shape[3] <= D)
        assert standin.launches == [f"cached_attention<float, {D}>"] * 3  # one for each order


@pytest.mark.parametrize(("shape", "used"), MORE_TOKENS, ids=str)
def test_several_tokens_after_a_cache_are_the_formula_in_every_thread_order(
    shape: Shape, used: list[int], on_gpu: OnGPU
) -> None:
    check(inputs(shape, used), on_gpu)


@pytest.mark.parametrize("shape", PROMPTS, ids=str)
def test_a_prompt_is_the_formula_by_the_kernel_of_training(shape: Shape, on_gpu: OnGPU, standin: Record | None) -> None:
    check(inputs(shape, [0] * shape[0]), on_gpu)
    if standin is not None:
        D = next(D for D in (32, 64, 128) if shape[3] <= D)
        assert standin.launches == ["fill_cache<float>", f"attention_forward<{D}>"] * 3


def test_a_row_has_the_same_bits_beside_others_and_alone(on_gpu: OnGPU) -> None:
    qkv, keys, values, slots, stop = inputs((3, 1, 2, 64), [130, 7, 300])
    whole = to_host(by_kernels(qkv, keys, values, slots, stop, on_gpu)[0])
    for row, used in enumerate((130, 7, 300)):
        one = [array[row : row + 1] for array in (qkv, keys, values, slots)]
        alone = by_kernels(*one, used + 1, on_gpu)[0]
        np.testing.assert_array_equal(to_host(alone), whole[row : row + 1])


def test_large_scores_neither_overflow_nor_lose_a_key(on_gpu: OnGPU) -> None:
    qkv, keys, values, slots, stop = inputs((1, 1, 2, 32), [130])
    qkv[..., :64] *= 40  # the scores are hundreds
    context = by_kernels(qkv, keys, values, slots, stop, on_gpu)[0]
    exact = by_formula(qkv, keys, values, slots, stop)[0]
    formula = plain.cached_attention(qkv, np.nan_to_num(keys), np.nan_to_num(values), slots, stop)
    assert relative_error(context, exact) < 4 * relative_error(formula, exact)  # such a score is known to 1e-5 only


@pytest.mark.parametrize("part", [1, 2], ids=["key", "value"])
def test_a_slot_that_is_nan_shows(part: int, on_gpu: OnGPU) -> None:
    given = inputs((2, 1, 2, 32), [130, 130])
    given[part][1, 0, 70] = np.nan
    context = to_host(by_kernels(*given, on_gpu)[0])
    shown = np.isnan(context).reshape(2, 2, 32)
    assert shown[1, 0].all()
    assert not shown[0].any()
    assert not shown[1, 1].any()


@pytest.mark.parametrize("kind", ["float64", "a wide head", "a view"])
@pytest.mark.parametrize("T", [1, 9])
def test_what_the_kernels_do_not_take_goes_by_the_formula(kind: str, T: int, on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    shape = 2, T, 2, (130 if kind == "a wide head" else 64)
    qkv, keys, values, slots, stop = inputs(shape, [4, 7], np.float64 if kind == "float64" else np.float32)
    given = qkv, np.nan_to_num(keys), np.nan_to_num(values), slots, stop
    qkv_, keys_, values_, slots_ = on_gpu(*given[:4])
    if kind == "a view":
        qkv_ = on_gpu(np.ascontiguousarray(qkv.swapaxes(0, 2))).swapaxes(0, 2)
    context = cuda.cached_attention(qkv_, keys_, values_, slots_, stop)
    exact, *memory = by_formula(*given)
    assert relative_error(context, exact) < (1e-12 if kind == "float64" else FLOAT32)
    for got, expected in zip((keys_, values_), memory, strict=True):
        np.testing.assert_array_equal(to_host(got), expected)
    assert simulator.launches == []


@pytest.mark.parametrize("used", [0, 130])
def test_a_next_token_is_one_launch_without_wait_or_upload(used: int, on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    *given, stop = inputs((2, 1, 2, 64), [used, 0])
    arrays = on_gpu(*given)
    simulator.uploads.clear()
    cuda.cached_attention(*arrays, stop)
    assert (simulator.syncs, simulator.uploads) == ([], [])
    assert simulator.launches == ["cached_attention<float, 64>"]


def test_no_rows_are_no_launch(on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    arrays = on_gpu(np.zeros((0, 1, 192), "f"), *np.zeros((2, 0, 2, 9, 32), "f"), np.zeros((0, 1), int))
    assert cuda.cached_attention(*arrays, 3).shape == (0, 1, 64)
    assert simulator.launches == []


BUGS = {
    "a slot too few": ("n = first + t + 1;", "n = first + t;"),
    "the token's own key is not kept": ("head_keys[to] = own[C + threadIdx.x];", ";"),
    "a new key is read from the cache": ("s < first ? head_keys", "true ? head_keys"),
    "a split too few": ("all = merged<D>(of_query, splits, column);", "all = merged<D>(of_query, splits - 1, column);"),
    "the sums are not shrunk": ("sums[j] *= shrink;", ";"),
    "the total is not shrunk": ("total *= shrink;", ";"),
    "a group's result is left out": ("merged<D>(shared, GROUPS, column)", "merged<D>(shared, GROUPS - 1, column)"),
    "splits have their own largest": ("all.total += factor *", "all.total +="),
    "the first block merges": ("if (!is_last_block(tickets + blockIdx.x, splits)) return;", "if (begin) return;"),
    "another query's counter": ("tickets + blockIdx.x", "tickets"),
    "a slot beyond the split": ("end = min(n, begin + SPLIT)", "end = min(n, begin + SPLIT + 1)"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "cached_attention.cu", right, wrong), caught():
        check(inputs((2, 2, 2, 64), [130, 20]), on_gpu)


FILL_BUGS = {
    "another slot": ("* S + t)", "* S + t + 1)"),
    "the value is the key": ("load_floats(v, key + C, true)", "load_floats(v, key, true)"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), FILL_BUGS.values(), ids=FILL_BUGS.keys())
def test_a_planted_bug_of_the_prompt_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "cached_attention.cu", right, wrong), caught():
        check(inputs((2, 9, 2, 32), [0, 0]), on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    given = inputs((1, 2, 1, 8), [66])
    prompt = inputs((1, 3, 1, 8), [0])

    def run() -> Any:
        return by_kernels(*given, on_gpu), by_kernels(*prompt, on_gpu)

    assert races_of(run) == []
    with planted(FOLDER / "cached_attention.cu", "__syncthreads();  // every group's result is read below", ""):
        assert races_of(run) != []
