"""backend/cuda/loss.cu on the simulator, against plain/loss.py in float64."""

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
from ml_dtypes import bfloat16
from standin.record import Record

from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import loss as plain
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

pytestmark = needs_compiler

ROWS = [1, 31, 33, 130]
VOCABULARIES = [1, 3, 5, 37, 40, 256]
LARGE = [4099, 5003]  # more than a block takes in one turn
C = 24
OnGPU = Callable[..., Any]


def given(N: int, V: int) -> tuple[Any, Any]:
    """logits (N, V), targets (N,): the first and the last word, too."""
    rng = np.random.default_rng([N, V])
    targets = rng.integers(0, V, N)
    targets[0], targets[-1] = 0, V - 1
    return (3 * rng.standard_normal((N, V))).astype(np.float32), targets


def head(N: int, V: int) -> tuple[Any, Any, Any]:
    """x (N, C), weight (V, C), targets (N,)"""
    rng = np.random.default_rng([N, V])
    x, weight = rng.standard_normal((N, C)), rng.standard_normal((V, C)) / 4
    return x.astype(np.float32), weight.astype(np.float32), given(N, V)[1]


def double(*arrays: Any) -> list[Any]:
    return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]


def see_close(got: list[Any], exact: list[Any], tolerance: float = FLOAT32) -> None:
    for a, b in zip(got, exact, strict=True):
        assert relative_error(a, np.asarray(b)) < tolerance


# cross_entropy


@pytest.mark.parametrize(("N", "V"), [*[(n, 37) for n in ROWS], *[(2, v) for v in [*VOCABULARIES, *LARGE]]])
def test_cross_entropy_and_its_gradient_are_the_formulas_in_every_thread_order(N: int, V: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    logits, targets = given(N, V)

    def run() -> list[Any]:
        logits_, targets_, dloss = on_gpu(logits, targets, np.array(0.7, np.float32))
        loss, largest, total = cuda.cross_entropy(logits_, targets_)
        return [loss, largest, total, cuda.cross_entropy_backward(dloss, logits_, targets_, largest, total)]

    exact = plain.cross_entropy(*double(logits, targets))
    gradient = plain.cross_entropy_backward(np.array(0.7), *double(logits, targets), *exact[1:])
    got = same_in_every_order(run)
    see_close(got, [*exact, gradient])
    np.testing.assert_array_equal(got[1], logits.max(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "row",
    [
        [0, -np.inf, 1, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf, 2],
        [-np.inf] * 9,
        [1, np.inf, 2, 0, 0, 0, 0, 0, 0],
        [np.nan, 0, 0, 0, 0, 0, 0, 0, 0],
        [-3.4e38, 3.4e38, 0, 0, 0, 0, 0, 0, 0],
        [1e4, 1e4 - 1, 1e4 - 2, 0, 0, 0, 0, 0, -1e4],
    ],
    ids=["-inf", "only -inf", "inf", "nan", "far apart", "large"],
)
def test_logits_that_are_not_finite_or_large_give_what_the_formulas_give(row: list[float], on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    logits, targets = np.array([row], np.float32), np.array([2])
    with np.errstate(all="ignore"):
        exact = plain.cross_entropy(*double(logits, targets))
        gradient = plain.cross_entropy_backward(np.array(1.0), *double(logits, targets), *exact[1:])
    loss, largest, total = cuda.cross_entropy(*on_gpu(logits, targets))
    got = cuda.cross_entropy_backward(on_gpu(np.array(1, np.float32)), *on_gpu(logits, targets), largest, total)
    for a, b in ((loss, exact[0]), (got, gradient)):
        np.testing.assert_allclose(to_host(a), b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("target", [-1, 5, 2**40])
def test_a_target_out_of_range_makes_the_loss_nan_and_reads_nothing(target: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    targets = np.array([0, target])
    assert np.isnan(to_host(cuda.cross_entropy(*on_gpu(given(2, 5)[0], targets))[0]))
    x, weight, _ = head(2, 5)
    assert np.isnan(to_host(cuda.linear_cross_entropy(*on_gpu(x, weight, targets), True)[0]))


def test_no_targets_are_refused(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x, weight, targets = on_gpu(*(a[:0] if i != 1 else a for i, a in enumerate(head(1, 5))))
    with pytest.raises(ValueError, match="cross-entropy: no targets; give at least one"):
        cuda.cross_entropy(x, targets)
    with pytest.raises(ValueError, match="cross-entropy: no targets; give at least one"):
        cuda.linear_cross_entropy(x, weight, targets, True)


# linear_cross_entropy


def chunks_of(rows: int, vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk be of `rows` rows."""
    from nanograd_gpt.backend.cuda import loss

    monkeypatch.setattr(loss, "ROWS", rows)
    monkeypatch.setattr(loss, "GPU_LOGITS_BYTES", 4 * rows * loss._padded(vocabulary, loss.PITCH))


def run_head(on_gpu: OnGPU, arrays: tuple[Any, Any, Any], accumulate: bool = False, dloss: float = 0.7) -> list[Any]:
    """loss, log_sum_exp, kept, dx, dweight"""
    from nanograd_gpt.backend import cuda

    x, weight, targets = on_gpu(*arrays)
    loss, log_sum_exp, kept = cuda.linear_cross_entropy(x, weight, targets, True)
    dweight = on_gpu(np.ones(weight.shape, np.float32))
    dx = cuda.linear_cross_entropy_backward(
        on_gpu(np.array(dloss, np.float32)), x, weight, targets, log_sum_exp, kept, GradOut(dweight, accumulate), True
    )
    return [loss, log_sum_exp, kept[:, : len(weight)].copy(), dx, dweight]


def exact_head(arrays: tuple[Any, Any, Any], accumulate: bool = False, dloss: float = 0.7) -> list[Any]:
    x, weight, targets = double(*arrays)
    loss, log_sum_exp, _ = plain.linear_cross_entropy(x, weight, targets, True)
    dweight = np.ones(weight.shape)
    out = GradOut(dweight, accumulate)
    dx = plain.linear_cross_entropy_backward(np.array(dloss), x, weight, targets, log_sum_exp, None, out, want_dx=True)
    logits, total = x @ weight.T, np.ones_like(log_sum_exp)
    kept = plain.cross_entropy_backward(np.array(1.0), logits, targets, log_sum_exp, total)
    return [loss, log_sum_exp, kept, dx, dweight]


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("N", "V"), [*[(n, 37) for n in ROWS], *[(2, v) for v in VOCABULARIES]])
def test_the_heads_loss_and_gradients_are_the_formulas_in_every_thread_order(
    N: int, V: int, accumulate: bool, on_gpu: OnGPU
) -> None:
    arrays = head(N, V)
    see_close(same_in_every_order(lambda: run_head(on_gpu, arrays, accumulate)), exact_head(arrays, accumulate))


@pytest.mark.parametrize("V", LARGE)
def test_the_heads_loss_over_many_words_is_the_formula_in_every_thread_order(V: int, on_gpu: OnGPU) -> None:
    """Its products are left out: their own rounding grows with V."""
    arrays = head(2, V)
    see_close(same_in_every_order(lambda: run_head(on_gpu, arrays)[:3]), exact_head(arrays)[:3])


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("N", [4, 8, 21])
def test_chunks_give_the_whole_and_keep_the_first(
    N: int, accumulate: bool, on_gpu: OnGPU, monkeypatch: pytest.MonkeyPatch, simulator: Record
) -> None:
    arrays = head(N, 37)
    chunks_of(8, 37, monkeypatch)
    got, exact = run_head(on_gpu, arrays, accumulate), exact_head(arrays, accumulate)
    exact[2] = exact[2][:8]
    see_close(got, exact)
    n = -(-N // 8)
    assert simulator.launches.count("cross_entropy_in_place<float>") == n
    assert simulator.launches.count("cross_entropy_backward<float>") == n - 1


@pytest.mark.usefixtures("standin")
def test_chunks_are_as_large_as_they_may_be_and_even(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanograd_gpt.backend.cuda import loss

    def sizes(B: int, T: int, V: int, kind: Any = "float32") -> list[int]:
        return [chunk.stop - chunk.start for chunk in loss._chunks(kind, B * T, V)]

    assert sizes(8, 1024, 50257) == [8192]
    assert sizes(32, 1024, 50257) == [16384] * 2
    assert sizes(32, 1024, 50257, "bf16") == [32768]
    assert sizes(1, 1, 50257) == [1]
    assert sizes(1, 100, 10**8) == [100]
    for rows in (1, 20000, 123457):
        chunks = loss._chunks("tf32", rows, 50257)
        assert [c.start for c in chunks] == [0, *[c.stop for c in chunks[:-1]]]
        assert chunks[-1].stop == rows
        assert all(c.start % loss.ROWS == 0 for c in chunks)
        assert all(4 * (c.stop - c.start) * 50304 <= loss.GPU_LOGITS_BYTES for c in chunks)


def test_without_a_gradient_the_loss_has_the_same_bits_and_nothing_is_kept(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x, weight, targets = on_gpu(*head(33, 41))
    loss, log_sum_exp, kept = cuda.linear_cross_entropy(x, weight, targets, False)
    wanted, its_log_sum_exp, dlogits = cuda.linear_cross_entropy(x, weight, targets, True)
    assert kept is None
    assert dlogits.shape == (33, 64)  # rows aligned to 256 bytes: products of others are far slower
    np.testing.assert_array_equal(to_host(loss), to_host(wanted))
    np.testing.assert_array_equal(to_host(log_sum_exp), to_host(its_log_sum_exp))


@pytest.mark.parametrize("want_dx", [False, True])
@pytest.mark.parametrize("want_dweight", [False, True])
def test_only_the_wanted_gradients_are_computed(want_dx: bool, want_dweight: bool, on_gpu: OnGPU) -> None:
    arrays = head(9, 12)
    x, weight = (Tensor(on_gpu(a), requires_grad=r) for a, r in zip(arrays, (want_dx, want_dweight), strict=False))
    loss = F.linear_cross_entropy(x, weight, on_gpu(arrays[2]))
    if want_dx or want_dweight:
        loss.backward()
    exact = exact_head(arrays, dloss=1.0)
    for tensor, wanted, gradient in ((x, want_dx, exact[3]), (weight, want_dweight, exact[4])):
        assert (tensor.grad is not None) == wanted
        if wanted:
            see_close([tensor.grad], [gradient])


def test_targets_may_be_of_any_integers_and_begin_anywhere(on_gpu: OnGPU) -> None:
    arrays = head(9, 12)
    padded = np.concatenate([[0], arrays[2]]).astype(np.int64)
    for targets in (on_gpu(padded)[1:], on_gpu(arrays[2].astype(np.uint16)), on_gpu(np.repeat(arrays[2], 2))[::2]):
        x, weight = on_gpu(*arrays[:2])
        see_close([F.linear_cross_entropy(x, weight, targets).data], [exact_head(arrays)[0]])


def test_arrays_in_float64_take_the_plain_formulas(on_gpu: OnGPU, simulator: Record) -> None:
    from nanograd_gpt.backend import cuda

    x, weight, targets = double(*head(9, 12))
    logits = x @ weight.T
    for ours, theirs, arrays in (
        (cuda.cross_entropy, plain.cross_entropy, (logits, targets)),
        (cuda.linear_cross_entropy, plain.linear_cross_entropy, (x, weight, targets)),
    ):
        more = (True,) if len(arrays) == 3 else ()
        got, exact = ours(*on_gpu(*arrays), *more), theirs(*arrays, *more)
        for a, b in zip(got[:2], exact[:2], strict=True):
            np.testing.assert_allclose(to_host(a), b, rtol=1e-14)
    log_sum_exp = on_gpu(np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    arrays = on_gpu(np.array(0.7), logits, targets)
    got, exact = (cuda.cross_entropy_backward(*arrays, log_sum_exp, total) for total in (1.0, on_gpu(np.ones((9, 1)))))
    np.testing.assert_allclose(to_host(got), to_host(exact), rtol=1e-14)
    assert simulator.launches == []


def test_a_step_of_the_head_is_four_launches_of_ours_and_no_wait(on_gpu: OnGPU, simulator: Record) -> None:
    x, weight, targets = on_gpu(*head(33, 41))
    tensors = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
    simulator.syncs.clear()
    simulator.uploads.clear()
    F.linear_cross_entropy(*tensors, targets, checked=True).backward()
    assert simulator.launches == ["cross_entropy_in_place<float>", "mean", "times<float>", "times<float>"]
    F.cross_entropy(Tensor(x, requires_grad=True), on_gpu(np.zeros(33, np.int64))).backward()
    assert simulator.launches[4:] == ["cross_entropy<float>", "mean", "cross_entropy_backward<float>"]
    assert simulator.syncs == []


@pytest.mark.parametrize("dtype", [np.float32, bfloat16])
@pytest.mark.parametrize("size", [1, 4, 7, 1029, 5000])
def test_a_gradient_is_scaled_by_a_number_on_the_device(size: int, dtype: Any, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.loss import _times

    x = np.random.default_rng(size).standard_normal(size).astype(dtype)

    def run() -> Any:
        (x_, factor), out = on_gpu(x, np.array(0.7, np.float32)), on_gpu(np.zeros(size, dtype))
        return _times(x_, factor, out), _times(x_, factor, x_)

    for got in same_in_every_order(run):
        np.testing.assert_array_equal(got, (x.astype(np.float32) * np.float32(0.7)).astype(dtype))


# Planted bugs and races

BUGS = {
    "the sum is not scaled to a larger maximum": ("total *= expf(largest - most);", ""),
    "a thread's sum is not scaled to the block's maximum": (
        "block_sum(total * expf(largest - all.largest), per_warp)", "block_sum(total, per_warp)"),
    "the maximum of one warp": ("return warp_max(lane < warps ? per_warp[lane] : LOWEST);", "return value;"),
    "a pack's elements beyond the row": ("column + k >= 0 && column + k < V;\n", "column + k >= 0;\n"),
    "stores beyond the row": (
        "if (column + k >= 0 && column + k < V) row[column + k] = pack", "if (column + k >= 0) row[column + k] = pack"),
    "rows begin at a pack": ("/ sizeof(T) % Pack<T>::N);", "/ sizeof(T) % 1);"),
    "the last factors are left out": ("for (; i < size; ++i) y[i]", "for (; i < 0; ++i) y[i]"),
    "another logit than the target's": (
        "logarithm - (of_target",
        "logarithm - (0 * of_target + float(row[0])",),
    "the target's own gradient": ("column + k == target ? probability - share", "column + k == V ? probability"),
    "the row's total is forgotten": ("float scale = share / total;", "float scale = share;"),
    "dloss is forgotten": ("dloss ? *dloss * share : share,", "share,"),
    "the mean of the first losses": ("i < N; i += blockDim.x) sum", "i < N / 2; i += blockDim.x) sum"),
}  # fmt: skip


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "loss.cu", right, wrong), caught():
        test_cross_entropy_and_its_gradient_are_the_formulas_in_every_thread_order(2, 4999, on_gpu)
        see_close(run_head(on_gpu, head(2, 523)), exact_head(head(2, 523)))
        test_a_gradient_is_scaled_by_a_number_on_the_device(7, np.float32, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_target_read_late_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    def run() -> Any:
        return run_head(on_gpu, head(2, 300))

    assert races_of(run) == []
    text = "losses[blockIdx.x] = logarithm - (of_target"
    with planted(FOLDER / "loss.cu", text, text.replace("of_target", "logit_of(row, target, V)")):
        assert races_of(run) != []
