"""backend/cuda/attention_bf16.cu on the simulator, against plain/attention.py in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import (
    BF16,
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

from nanograd_gpt.backend.plain import attention as plain
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.rng import Generator

pytestmark = needs_compiler

SHAPES = [  # B, T, H, D
    *[(2, T, 2, 64) for T in (1, 31, 33)],
    *[(1, T, 1, 64) for T in (64, 77, 130, 257)],
    *[(1, 77, 2, D) for D in (8, 16, 40)],
    *[(1, T, 1, 128) for T in (33, 77, 200)],
    (1, 100, 2, 72),
]
OnGPU = Callable[..., Any]


def exact(array: Any) -> Any:
    """In float64, which holds bf16's values."""
    return to_host(array).astype(np.float64)


def inputs(shape: tuple[int, ...], rate: float) -> tuple[Any, Any, Any]:
    """qkv and dy in bf16, and the mask or None."""
    B, T, H, D = shape
    rng = np.random.default_rng(T)
    keep = Generator(T).keep_mask((B, H, T, T), rate) if rate else None
    qkv, dy = (rng.standard_normal((B, T, n * H * D)).astype(bfloat16) for n in (3, 1))
    return qkv, dy, keep


def by_kernels(shape: tuple[int, ...], rate: float, on_gpu: OnGPU) -> list[Any]:
    """The context, its log-sum-exp, and dqkv."""
    from nanograd_gpt.backend import cuda
    from nanograd_gpt.backend.cuda import attention_bf16

    (qkv, dy), (B, T, H, _) = on_gpu(*inputs(shape, rate)[:2]), shape
    keep = cuda.keep_mask(Generator(T), (B, H, T, T), rate) if rate else None
    context, lse = attention_bf16.causal_attention(qkv, H, keep, rate)
    return [context, lse, attention_bf16.causal_attention_backward(dy, qkv, context, lse, H, keep, rate)]


def backward_by_formula(dy: Any, qkv: Any, context: Any, lse: Any, H: int, keep: Any, rate: float) -> list[Any]:
    """The gradients by queries, keys and values from this context, which is rounded; B and T as in qkv."""
    q, k, v = plain.heads(qkv, H)
    dcontext, context = plain.split(dy, H), plain.split(context, H)
    kept = 1.0 if keep is None else keep / (1 - rate)
    weights = np.exp(plain.masked_scores(q, k) - lse)
    delta = (dcontext * context).sum(-1, keepdims=True)
    dscores = weights * (kept * (dcontext @ v.swapaxes(-1, -2)) - delta) / np.sqrt(q.shape[-1])
    gradients = dscores @ k, dscores.swapaxes(-1, -2) @ q, (kept * weights).swapaxes(-1, -2) @ dcontext
    return [g.swapaxes(1, 2).reshape(dy.shape) for g in gradients]


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_the_formula_in_every_thread_order(shape: tuple[int, ...], rate: float, on_gpu: OnGPU) -> None:
    qkv, dy, keep = inputs(shape, rate)
    qkv, dy, H = exact(qkv), exact(dy), shape[2]
    context, lse, dqkv = same_in_every_order(lambda: by_kernels(shape, rate, on_gpu))
    exact_context, exact_lse = plain.causal_attention(qkv, H, keep, rate)
    assert relative_error(exact(context), exact_context) < BF16
    assert relative_error(lse, exact_lse) < FLOAT32
    expected = backward_by_formula(dy, qkv, exact(context), exact_lse, H, keep, rate)
    for got, gradient in zip(np.split(exact(dqkv), 3, -1), expected, strict=True):
        assert relative_error(got, gradient) < BF16


def pytorchs_gradient(qkv: Any, dy: Any, H: int) -> Any:
    """The gradient of PyTorch's attention in bf16 on the CPU, as float64."""
    torch = pytest.importorskip("torch")
    B, T, C = dy.shape
    heads = torch.tensor(qkv, dtype=torch.bfloat16).reshape(B, T, 3, H, C // H).permute(2, 0, 3, 1, 4).requires_grad_()
    result = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
    result.backward(torch.tensor(dy, dtype=torch.bfloat16).reshape(B, T, H, C // H).transpose(1, 2))
    return heads.grad.permute(1, 3, 0, 2, 4).reshape(qkv.shape).double().numpy()


def test_over_all_shapes_gradients_are_as_near_as_pytorchs(on_gpu: OnGPU) -> None:
    errors = []
    for shape in SHAPES:
        H, (qkv, dy) = shape[2], map(exact, inputs(shape, 0.0)[:2])
        expected = plain.causal_attention_backward(dy, qkv, *plain.causal_attention(qkv, H, None, 0.0), H, None, 0.0)
        ours, theirs = exact(by_kernels(shape, 0.0, on_gpu)[2]), pytorchs_gradient(qkv, dy, H)
        errors.append([relative_error(ours, expected), relative_error(theirs, expected)])
    mine, others = np.linalg.norm(errors, axis=0)
    assert mine < 1.02 * others, np.array(errors)


def test_with_a_recipe_a_layer_is_four_launches_and_no_wait(on_gpu: OnGPU, simulator: Record) -> None:
    by_kernels((1, 33, 2, 64), 0.25, on_gpu)
    kernels = ["forward<64,true>", "backward_q<64,true>", "backward_kv<64,true>"]
    assert simulator.launches == ["mask_bits", *(f"attention_bf16_{kernel}" for kernel in kernels)]
    assert simulator.syncs == []


@pytest.mark.parametrize("D", [4, 12, 136])
def test_a_head_size_that_the_kernels_do_not_take_is_refused(D: int, on_gpu: OnGPU) -> None:
    with pytest.raises(ValueError, match=f"the head size is {D}, expected a multiple of 8 up to 128 in bf16"):
        by_kernels((1, 3, 2, D), 0.0, on_gpu)


def test_floats_are_refused(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda import attention_bf16

    with pytest.raises(TypeError, match="qkv is of float32, expected bfloat16"):
        attention_bf16.causal_attention(on_gpu(np.zeros((1, 2, 24), np.float32)), 1, None, 0.0)


KERNELS, TILES = "attention_bf16.cu", "tiles_bf16.cuh"
LAST_WAIT = "cp_async_wait<0>();\n        }\n        __syncthreads();\n        if (tile == 0) {"
BUGS = {
    "a later key is seen": (KERNELS, "bool seen = key + n * 8 + l.t * 2", "bool seen = key - 1 + n * 8 + l.t * 2"),
    "a tile too few": (KERNELS, "int tiles = (min(T, first + ROWS) + TILE - 1)", "int tiles = (min(T, first + ROWS))"),
    "the sum is not shrunk": (KERNELS, "total[m][r] *= shrink;", ""),
    "the first buffer only": (KERNELS, "(sums, weights, V + (tile & 1)", "(sums, weights, V + 0"),
    "a buffer not waited for": (KERNELS, LAST_WAIT, LAST_WAIT.replace("cp_async_wait<0>();", "")),
    "copied to the buffer in use": (KERNELS, "buffer = (tile & 1) * QUERIES, i", "buffer = 0, i"),
    "another key's bit": (KERNELS, "(l.warp % 2 * 16 + l.g + i / 2 * 8) & 1", "(l.warp % 2 * 16 + l.g) & 1"),
    "dV of what was dropped": (KERNELS, "DROP ? fmaxf(weight, 0.0f) : weight", "fabsf(weight)"),
    "delta is that of kept weights": (KERNELS, "delta[before + query] * share", "delta[before + query]"),
    "chunks out of place": (TILES, "address_of(at<D>(tile, l.matrix % 2", "address_of(at<D>(tile, l.matrix / 2"),
    "rows beyond the last": (TILES, "bool there = first + row + i < T && chunk", "bool there = chunk"),
}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("file", "right", "wrong"), BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_caught(file: str, right: str, wrong: str, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / file, right, wrong), caught():
        test_attention_is_the_formula_in_every_thread_order((1, 130, 1, 64), 0.2, on_gpu)


@pytest.mark.usefixtures("simulator")
def test_there_is_no_race_and_a_missing_barrier_is_one(on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    def run() -> Any:
        return by_kernels((1, 70, 1, 8), 0.2, on_gpu)

    assert races_of(run) == []
    barrier = "__syncwarp();\n    #pragma unroll\n    for (int i = l.lane"
    with planted(FOLDER / TILES, barrier, barrier.replace("__syncwarp();", "")):
        assert races_of(run) != []
