"""Layers' results in bfloat16, which kernels read and write in place of float32, against the formulas in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cusim.checks import BF16, FLOAT32, caught, needs_compiler, planted, races_of, relative_error, same_in_every_order
from ml_dtypes import bfloat16
from standin.record import Record

import nanograd_gpt as ng
from nanograd_gpt.backend import plain
from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import activation, dropout, norm
from nanograd_gpt.backend.precision import set_precision
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

pytestmark = needs_compiler
OnGPU = Callable[..., Any]
SHAPES = [(N, C) for N in (1, 31, 130) for C in (5, 37, 40, 256, 768)]
LONG = [(3, 1028), (1, 2047), (2, 4096)]
EPS = 1e-5
INNER = 16  # numbers of a layer's input
CONFIG = ng.GPTConfig(vocab_size=61, context_length=48, emb_dim=32, n_heads=2, n_layers=2, drop_rate=0.1)


@pytest.fixture(autouse=True)
def _bf16(standin: Record | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Precision bf16, for any number of rows."""
    from nanograd_gpt.backend.cuda import operands

    monkeypatch.setattr(operands, "MIN_BF16_ROWS", 1)
    set_precision("bf16")
    yield
    set_precision("fp32")


def drawn(*shapes: Any, dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng(sum(shapes[0]))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def doubles(*arrays: Any) -> list[Any]:
    return [np.asarray(a, np.float64) for a in arrays]


@pytest.mark.parametrize(("N", "C"), [*SHAPES, *LONG], ids=str)
def test_layer_norm_reads_the_residual_stream_and_writes_bf16(N: int, C: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x, residual, scale, shift, dscale, dshift = drawn((N, C), (N, C), (C,), (C,), (C,), (C,))
    (dy,) = drawn((N, C), dtype=bfloat16)

    def run() -> list[Any]:
        on_device = on_gpu(x, scale, shift)
        y, mean, rstd = cuda.layer_norm(*on_device, EPS)
        outs = [GradOut(on_gpu(a), accumulate=True) for a in (dscale, dshift)]
        dx = cuda.layer_norm_backward(on_gpu(dy), *on_device[:2], mean, rstd, *outs, on_gpu(residual))
        return [y, dx, *(out.array for out in outs)]

    y, dx, *gradients = same_in_every_order(run)
    assert (y.dtype, dx.dtype) == (bfloat16, np.float32)
    x, residual, scale, shift, dscale, dshift, dy = doubles(x, residual, scale, shift, dscale, dshift, dy)
    exact, mean, rstd = norm.layer_norm(x, scale, shift, EPS)
    outs = [GradOut(dscale, accumulate=True), GradOut(dshift, accumulate=True)]
    exact_dx = norm.layer_norm_backward(dy, x, scale, mean, rstd, *outs, residual)
    assert relative_error(y, exact) < BF16
    assert relative_error(dx, exact_dx) < FLOAT32
    for got, out in zip(gradients, outs, strict=True):
        assert relative_error(got, out.array) < FLOAT32


@pytest.mark.parametrize(("N", "C"), [(1, 3), (33, 40), (130, 37), (64, 768)], ids=str)
@pytest.mark.parametrize(
    ("given", "wanted"), [(np.float32, np.float32), (np.float32, bfloat16), (bfloat16, np.float32)]
)
def test_dropout_goes_between_the_types(N: int, C: int, given: Any, wanted: Any, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    (x,), (residual,) = drawn((N, C), dtype=given), drawn((N, C))

    def run() -> list[Any]:
        masks = [cuda.keep_mask(Generator(5), (N, C), 0.3) for _ in range(2)]
        return [
            cuda.dropout(on_gpu(x), masks[0], 0.3, np.dtype(wanted)),
            cuda.dropout_add(on_gpu(x), masks[1], 0.3, on_gpu(residual)),
        ]

    alone, added = same_in_every_order(run)
    assert (alone.dtype, added.dtype) == (wanted, np.float32)
    keep = Generator(5).keep_mask((N, C), 0.3)
    exact = dropout.dropout(*doubles(x), keep, 0.3)
    assert relative_error(alone, exact) < (FLOAT32 if wanted is np.float32 else BF16)
    assert relative_error(added, exact + residual) < FLOAT32


@pytest.mark.parametrize(("N", "C"), [*SHAPES, (9000, 5)], ids=str)
def test_columns_of_bf16_are_summed_in_float32(N: int, C: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.column_sums import column_sums

    (x,), (before,) = drawn((N, C), dtype=bfloat16), drawn((C,))

    def run() -> Any:
        total = on_gpu(before)
        column_sums(on_gpu(x), GradOut(total, accumulate=True))
        return total

    exact = doubles(x)[0].sum(0) + before
    assert relative_error(same_in_every_order(run)[0], exact) < FLOAT32


@pytest.mark.parametrize(("N", "C"), SHAPES, ids=str)
def test_a_linear_layer_with_gelu_is_of_bf16_each_way(N: int, C: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x, dy = drawn((N, INNER), (N, C), dtype=bfloat16)
    weight, bias, dweight, dbias = drawn((C, INNER), (C,), (C, INNER), (C,))

    def run() -> list[Any]:
        x_, dy_, weight_, bias_ = on_gpu(x, dy, weight, bias)
        y, kept = cuda.linear_gelu(x_, weight_, bias_, True)
        outs = [GradOut(on_gpu(a), accumulate=True) for a in (dweight, dbias)]
        return [y, cuda.linear_gelu_backward(dy_, x_, weight_, kept, *outs, True), *(out.array for out in outs)]

    got = same_in_every_order(run)
    assert [a.dtype for a in got] == [bfloat16, bfloat16, np.float32, np.float32]
    x, dy, weight, bias, dweight, dbias = doubles(x, dy, weight, bias, dweight, dbias)
    y, kept = activation.linear_gelu(x, weight, bias, True)
    assert kept is not None
    outs = [GradOut(dweight, accumulate=True), GradOut(dbias, accumulate=True)]
    dx = activation.linear_gelu_backward(dy, x, weight, kept, *outs, True)
    for array, exact in zip(got, [y, dx, dweight, dbias], strict=True):
        assert exact is not None
        assert relative_error(array, exact) < 4 * BF16  # of h and of weights that are rounded, too


@pytest.mark.parametrize(("D", "fits"), [(8, True), (12, False), (136, False)])
def test_attention_of_a_head_size_that_bf16_does_not_take_is_in_float32(D: int, fits: bool, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    qkv, dy = drawn((1, 5, 6 * D), (1, 5, 2 * D), dtype=bfloat16)
    qkv_, dy_ = on_gpu(qkv, dy)
    context, lse = cuda.causal_attention(qkv_, 2, None, 0.0)
    dqkv = cuda.causal_attention_backward(dy_, qkv_, context, lse, 2, None, 0.0)
    assert (context.dtype == bfloat16) == (dqkv.dtype == bfloat16) == fits
    exact_context, exact_lse = plain.attention.causal_attention(*doubles(qkv), 2, None, 0.0)
    arguments = *doubles(dy, qkv), exact_context, exact_lse, 2, None, 0.0
    assert relative_error(context, exact_context) < BF16
    assert relative_error(dqkv, plain.attention.causal_attention_backward(*arguments)) < 4 * BF16


@pytest.mark.parametrize("N", [40, 33])
def test_rows_beyond_a_multiple_of_8_have_their_share_of_the_heads_gradient(N: int, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda
    from nanograd_gpt.backend.plain import loss as formula

    for V in (64, 61, 57, 7):
        (x,), (weight,) = drawn((N, 24), dtype=bfloat16), drawn((V, 24))
        targets = np.random.default_rng(V).integers(0, V, N)
        x_, weight_, targets_, dloss = on_gpu(x, weight, targets, np.array(2.0, np.float32))
        dweight = on_gpu(np.ones((V, 24), np.float32))
        _, lse, kept = cuda.linear_cross_entropy(x_, weight_, targets_, True)
        out = GradOut(dweight, accumulate=True)
        dx = cuda.linear_cross_entropy_backward(dloss, x_, weight_, targets_, lse, kept, out, True)
        assert dx.dtype == bfloat16
        exact = GradOut(np.ones((V, 24)), accumulate=True)
        x, weight = doubles(x, weight)
        _, lse, _ = formula.linear_cross_entropy(x, weight, targets, True)
        exact_dx = formula.linear_cross_entropy_backward(np.array(2.0), x, weight, targets, lse, None, exact, True)
        assert exact_dx is not None
        assert relative_error(dx, exact_dx) < 4 * BF16
        assert relative_error(dweight, exact.array) < 4 * BF16
        np.testing.assert_allclose(to_host(dweight)[-1], exact.array[-1], rtol=0.02, atol=0.02)


# In the engine


def test_operations_that_do_not_take_bf16_get_float32_and_hand_back_a_gradient_of_bf16(on_gpu: OnGPU) -> None:
    x, weight = (Tensor(on_gpu(a), requires_grad=True) for a in drawn((4, 8), (6, 8)))
    y = F.linear(x, weight)
    assert y.dtype == bfloat16
    for z in (y + 1, y * y, y.sum(), y.exp(), y[1:], y.swapaxes(0, 1), F.softmax(y), F.gelu(y), y @ weight, -y):
        assert z.dtype == np.float32
    (F.gelu(y.reshape(2, 2, 6)) * 2.0 + y.reshape(2, 2, 6)).sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert (x.grad.dtype, weight.grad.dtype) == (np.float32, np.float32)
    exact_x, exact_weight = (Tensor(np.float64(to_host(a.data)), requires_grad=True) for a in (x, weight))
    exact_y = F.linear(exact_x, exact_weight)
    (F.gelu(exact_y) * 2.0 + exact_y).sum().backward()
    assert relative_error(x.grad, exact_x.grad) < 4 * BF16
    assert relative_error(weight.grad, exact_weight.grad) < 4 * BF16


def test_a_weight_is_rounded_once_and_writing_to_it_before_backward_is_found(simulator: Record, on_gpu: OnGPU) -> None:
    x, weight = (Tensor(on_gpu(a), requires_grad=True) for a in drawn((4, 8), (6, 8)))
    simulator.launches.clear()
    loss = F.linear(x, weight).sum()
    loss.backward()
    assert simulator.launches.count("to_bf16") == 3  # x, again in backward as it is float32, and the weight
    optimizer = ng.AdamW([weight])
    loss = F.linear(x, weight).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="was written to after forward"):
        loss.backward()


def test_arrays_that_kernels_do_not_take_as_they_lie_are_copied(on_gpu: OnGPU) -> None:
    """Rows of 7 numbers begin at any address, and a transposed gradient is not contiguous."""
    x, weight, bias = on_gpu(*drawn((5, 8), (7, 8), (8,)))
    y = F.linear(x, weight, bias[1:])
    exact = to_host(x) @ to_host(weight).T + to_host(bias)[1:]
    assert relative_error(y.numpy(), exact) < 4 * BF16
    np.testing.assert_array_equal(to_host(y.data[1]), to_host(y.data)[1])
    np.testing.assert_array_equal(to_host((Tensor(y.data[1]) + 1).data), to_host(y.data)[1] + 1)
    qkv = Tensor(on_gpu(drawn((2, 5, 48))[0]), requires_grad=True)
    rows = F.linear(qkv, on_gpu(np.eye(48, dtype=np.float32)))
    (F.causal_attention(rows, 2).swapaxes(0, 1) * on_gpu(drawn((5, 2, 16))[0])).sum().backward()
    assert np.isfinite(to_host(qkv.grad)).all()


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_the_gradient_of_one_of_several_losses_may_lie_anywhere(name: str, on_gpu: OnGPU) -> None:
    set_precision(name)
    targets = np.arange(6) % 5

    def gradients(move: Any) -> list[Any]:
        tensors = [Tensor(move(a), requires_grad=True) for a in drawn((6, 8), (5, 8))]
        losses = [F.linear_cross_entropy(*tensors, move(targets)) for _ in range(2)]
        (F.stack(losses) * move(np.array([1, 2], np.float32))).sum().backward()
        return [to_host(t.grad) for t in tensors]

    for got, exact in zip(gradients(on_gpu), gradients(np.array), strict=True):
        assert relative_error(got, exact) < 4 * BF16


def test_layers_meet_others_of_few_rows_and_of_another_precision(
    monkeypatch: pytest.MonkeyPatch, on_gpu: OnGPU
) -> None:
    from nanograd_gpt.backend.cuda import operands

    monkeypatch.setattr(operands, "MIN_BF16_ROWS", 64)
    weight, scale, shift = on_gpu(*drawn((8, 8), (8,), (8,)))
    many, few = (Tensor(on_gpu(drawn((n, 8))[0]), requires_grad=True) for n in (64, 63))
    assert (F.linear(many, weight).dtype, F.linear(few, weight).dtype) == (bfloat16, np.float32)
    y = F.linear(many, weight)
    assert F.linear(y[:3], weight).dtype == np.float32
    set_precision("tf32")
    assert F.linear(y, weight).dtype == np.float32
    set_precision("bf16")
    z = F.layer_norm(F.layer_norm(many, scale, shift), scale, shift)
    (z * z + F.linear(z, weight) + y).sum().backward()
    assert many.grad is not None
    assert (many.grad.dtype, bool(np.isfinite(to_host(many.grad)).all())) == (np.float32, True)


def test_what_is_not_an_operation_reads_bf16_in_float32(on_gpu: OnGPU) -> None:
    x = Tensor(on_gpu(drawn((4, 9), dtype=bfloat16)[0]), requires_grad=True)
    floats = to_host(x.data)
    np.testing.assert_array_equal(to_host(x.argmax(-1)), floats.argmax(-1))
    np.testing.assert_array_equal(to_host(F.topk(x, 3)[1]), np.argsort(-floats, -1, kind="stable")[:, :3])
    np.testing.assert_array_equal(to_host(x > 0.3), floats > np.float32(0.3))


def test_the_cpu_has_no_bfloat16() -> None:
    with pytest.raises(TypeError, match="a Tensor holds numbers or bools, got an array of bfloat16"):
        Tensor(np.ones(3, bfloat16))


def test_on_the_host_bf16_is_float32(on_gpu: OnGPU) -> None:
    x = drawn((3, 5), dtype=bfloat16)[0]
    tensor = Tensor(on_gpu(x))
    for array in (tensor.numpy(), np.asarray(tensor)):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, x.astype(np.float32))
    assert "bfloat16" in repr(tensor)


def test_anomalies_are_found_in_bf16(on_gpu: OnGPU) -> None:
    x, weight = on_gpu(np.full((4, 8), 3e38, np.float32), np.ones((6, 8), np.float32))
    with ng.detect_anomaly(), pytest.raises(ng.NonFiniteError, match="Linear"):
        F.linear(Tensor(x, requires_grad=True), Tensor(weight))


def test_a_model_keeps_layers_results_in_bf16_and_its_stream_in_float32() -> None:
    model = ng.GPTModel(CONFIG, rng=Generator(1)).to("cuda").train()
    ids = np.arange(96).reshape(2, 48) % 61
    with ng.record(values=True) as tape:
        model.loss(ids, ids).backward()
    dtypes = {operation.name: str(operation.dtype) for operation in tape.operations}
    narrow = {"LayerNorm", "PackedLinear", "CausalAttention", "Linear", "LinearGELU"}
    assert {name for name, dtype in dtypes.items() if dtype == "bfloat16"} == {*narrow, "Reshape"}
    assert dtypes["DropoutAdd"] == dtypes["Add"] == dtypes["LinearCrossEntropy"] == "float32"
    assert all(to_host(tape[name].value).dtype == np.float32 for name in tape.places)
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {np.dtype(np.float32)}


def test_logits_are_those_of_the_cpu_within_bf16() -> None:
    model = ng.GPTModel(CONFIG, rng=Generator(1)).eval()
    ids = np.arange(96).reshape(2, 48) % 61
    exact = model(ids).detach().numpy().astype(np.float64)
    model.to("cuda")
    with ng.no_grad():
        assert relative_error(model(ids).numpy(), exact) < 4 * BF16
        assert relative_error(model(ids, cache=model.new_cache(2)).numpy(), exact) < 4 * BF16


# Planted bugs and races

BUGS = {
    "two that change places": (
        "common.cuh",
        "pack_bf16(values[first + i], values[first + i + 1])",
        "pack_bf16(values[first + i + 1], values[first + i])",
    ),
    "half of a bf16": ("common.cuh", "static_cast<u32>(bits) << 16", "static_cast<u32>(bits) << 15"),
    "the residual is left out": ("dropout.cu", "residual != nullptr);", "false);"),
    "the last values have no residual": ("dropout.cu", "residual ? value + static", "false ? value + static"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("file", "right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(file: str, right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / file, right, wrong), caught():
        test_dropout_goes_between_the_types(33, 37, np.float32, bfloat16, on_gpu)
        test_dropout_goes_between_the_types(33, 37, bfloat16, np.float32, on_gpu)
        test_a_linear_layer_with_gelu_is_of_bf16_each_way(31, 40, on_gpu)
        test_a_linear_layer_with_gelu_is_of_bf16_each_way(31, 37, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda
    from nanograd_gpt.backend.cuda.column_sums import column_sums

    x = drawn((18, 8), dtype=bfloat16)[0]

    def run() -> Any:
        mask = cuda.keep_mask(Generator(5), (18, 8), 0.3)
        total = on_gpu(np.zeros(8, np.float32))
        column_sums(on_gpu(x), GradOut(total, accumulate=False))
        return cuda.dropout(on_gpu(x), mask, 0.3, np.dtype(np.float32)), total

    assert races_of(run) == []
