"""Products by gemm() against NumPy's, on the twin of cuBLASLt, and on a GPU: every layout, shape, kind and epilogue."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
from cublaslt_twin import Twin
from ml_dtypes import bfloat16
from standin.record import Record

SHAPES = [(3, 5, 7), (1, 5, 7), (3, 1, 7), (3, 5, 1), (1, 1, 1), (1, 1, 4), (8, 8, 8)]  # M, N, K
PLACES = ("rows", "columns", "part of rows", "part of columns")
OUTPUTS = {"float32": ["f4"], "tf32": ["f4"], "bf16": ["f4", "bfloat16"], "float64": ["f8"]}
TOLERANCE = {"float32": 1e-6, "tf32": 1e-6, "float64": 1e-14, "bf16": 1e-6}  # inputs are exact in their type
# Tensor cores cut off bits below those of a sum's largest term, instead of rounding (Fasi et al. 2021, Numerical
# behavior of NVIDIA tensor cores), so errors add up: 9e-6 for sums of 8192 terms was seen on an H100.
TENSOR_CORES = 2e-5
BF16_TWICE = 2**-7  # rounding to bf16's 8 bits twice: the product, and its sum with what is there
AROUND = 99.0  # a sentinel
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def twin(standin: Record | None) -> Twin | None:
    """The twin of cuBLASLt, or None where the real one runs."""
    return standin.cublaslt if standin else None


@pytest.fixture
def gemm(twin: Twin | None) -> Any:
    return importlib.import_module("nanograd_gpt.backend.cuda.gemm").gemm


def values(kind: str, *shape: int) -> Any:
    """Random numbers that the kind's inputs hold exactly, as float64: TF32's and bfloat16's of few bits."""
    numbers = rng.standard_normal(shape).astype(np.float32)
    if kind in ("tf32", "bf16"):
        numbers = numbers.astype(bfloat16)
    return numbers.astype(np.float64)


def stored(numbers: Any, dtype: str) -> Any:
    return numbers.astype(np.float32).astype(dtype) if dtype == "bfloat16" else numbers.astype(dtype)


def read(array: Any) -> Any:
    return array.get().astype(np.float64)


def placed(host: Any, place: str) -> Any:
    """The matrices on the device, lying as `place` says; around a part lie sentinels."""
    cp = importlib.import_module("cupy")
    turned = host.swapaxes(-1, -2) if "columns" in place else host
    if "part" in place:
        rows, columns = turned.shape[-2:]
        whole = np.full((*turned.shape[:-2], rows + 2, columns + 8), AROUND, dtype=host.dtype)
        whole[..., 1:-1, 4:-4] = turned
        array = cp.asarray(whole)[..., 1:-1, 4:-4]
    else:
        array = cp.asarray(np.ascontiguousarray(turned))
    return array.swapaxes(-1, -2) if "columns" in place else array


def inputs_of(kind: str) -> str:
    return {"bf16": "bfloat16", "float64": "f8"}.get(kind, "f4")


def multiply(gemm: Any, kind: str, shape: Any, places: Any, output: str, accumulate: bool, with_bias: bool) -> None:
    """One product, compared with NumPy's in float64; the surroundings of a part must stay as they were."""
    M, N, K = shape
    a, b, bias, before = (values(kind, *size) for size in ((M, K), (K, N), (N,), (M, N)))
    dtype = inputs_of(kind)
    out = placed(stored(before if accumulate else np.full((M, N), np.nan), output), places[2])
    held_bias = placed(stored(bias, output)[None], "rows")[0] if with_bias else None
    gemm(
        placed(stored(a, dtype), places[0]),
        placed(stored(b, dtype), places[1]),
        out,
        kind,
        accumulate=accumulate,
        bias=held_bias,
    )
    expected = a @ b + (before if accumulate else 0) + (bias if with_bias else 0)
    tolerance = BF16_TWICE if output == "bfloat16" else TOLERANCE[kind]
    np.testing.assert_allclose(read(out), expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max()))
    if "part" in places[2]:
        around = out.base.get().reshape(M + 2, N + 8)
        around[1:-1, 4:-4] = AROUND
        assert (around == AROUND).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_product_is_numpys_wherever_its_matrices_lie(twin, gemm, kind, shape):
    cases = itertools.product(PLACES, PLACES, ["rows", "part of rows"], OUTPUTS[kind], [False, True], [False, True])
    n = 0
    for in_a, in_b, in_out, output, accumulate, with_bias in cases:
        multiply(gemm, kind, shape, (in_a, in_b, in_out), output, accumulate, with_bias)
        n += 1
    if twin:
        assert (len(twin.products), twin.refusals) == (n, [])


@pytest.mark.parametrize("one_for_all", ["", "a", "b"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_batch_is_one_product(twin, gemm, kind, place, one_for_all):
    B, M, N, K = 3, 4, 5, 6
    a = values(kind, *([] if one_for_all == "a" else [B]), M, K)
    b = values(kind, *([] if one_for_all == "b" else [1] if one_for_all == "a" else [B]), K, N)
    b = np.concatenate([b] * B) if one_for_all == "a" else b
    bias, before, output = values(kind, N), values(kind, B, M, N), OUTPUTS[kind][0]
    out = placed(stored(before, output), "part of rows")
    held = placed(stored(bias, output)[None], "rows")[0]
    dtype = inputs_of(kind)
    gemm(placed(stored(a, dtype), place), placed(stored(b, dtype), place), out, kind, accumulate=True, bias=held)
    np.testing.assert_allclose(read(out), a @ b + bias + before, atol=10 * TOLERANCE[kind])
    if twin:
        assert [p.shape for p in twin.products] == [(B, N, M, K)]


def test_heads_that_are_interleaved_in_a_row_are_a_batch(gemm):
    """(H, T, D) views of (T, H * D), as attention has them."""
    cp = importlib.import_module("cupy")
    T, H, D = 5, 3, 4
    q, k = (cp.asarray(values("float32", T, H * D).astype("f4")).reshape(T, H, D).transpose(1, 0, 2) for _ in range(2))
    scores = cp.empty((H, T, T), dtype="f4")
    gemm(q, k.swapaxes(1, 2), scores)
    np.testing.assert_allclose(scores.get(), q.get() @ k.get().swapaxes(1, 2), rtol=1e-5, atol=1e-6)
    context = cp.empty((T, H * D), dtype="f4")
    gemm(scores, k, context.reshape(T, H, D).transpose(1, 0, 2))
    expected = (scores.get() @ k.get()).transpose(1, 0, 2).reshape(T, H * D)
    np.testing.assert_allclose(context.get(), expected, rtol=1e-5, atol=1e-5)


def test_tf32_rounds_its_inputs_and_float32_does_not(twin, gemm):
    if twin is None:
        pytest.skip("cuBLASLt may compute a 1 x 1 product in float32 even when TF32 is allowed")
    cp = importlib.import_module("cupy")
    a = cp.asarray(np.array([[1 + 2**-12]], dtype="f4"))
    exact, rounded = cp.empty((1, 1), dtype="f4"), cp.empty((1, 1), dtype="f4")
    gemm(a, a, exact, "float32")
    gemm(a, a, rounded, "tf32")
    assert exact.get() == np.float32(1 + 2**-11)
    assert rounded.get() == 1


def test_bf16_is_summed_in_float32_and_rounded_once(gemm):
    cp = importlib.import_module("cupy")
    a = cp.asarray(np.full((1, 1024), 1 + 2**-7, dtype=bfloat16))
    wide, narrow = cp.empty((1, 1), dtype="f4"), cp.empty((1, 1), dtype=bfloat16)
    ones = cp.asarray(np.ones((1024, 1), dtype=bfloat16))
    gemm(a, ones, wide, "bf16")
    gemm(a, ones, narrow, "bf16")
    assert wide.get() == 1032
    assert narrow.get() == 1032  # in bf16 alone, 256 + 1 is 256


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_sum_over_nothing_is_nothing(twin, gemm, accumulate, with_bias):
    cp = importlib.import_module("cupy")
    a, b, out = cp.empty((2, 0), dtype="f4"), cp.empty((0, 3), dtype="f4"), cp.full((2, 3), 5, dtype="f4")
    bias = cp.arange(3, dtype="f4") if with_bias else None
    if accumulate and with_bias:
        with pytest.raises(ValueError, match="K = 0"):
            gemm(a, b, out, accumulate=accumulate, bias=bias)
        return
    gemm(a, b, out, accumulate=accumulate, bias=bias)
    assert (out.get() == (5 if accumulate else np.arange(3) if with_bias else 0)).all()
    gemm(cp.empty((0, 4), dtype="f4"), cp.empty((4, 3), dtype="f4"), cp.empty((0, 3), dtype="f4"))
    if twin:
        assert twin.products == []


# --- the model's products


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("n_in", "n_out"), [(768, 2304), (768, 768), (768, 3072), (3072, 768)])
def test_a_layers_three_products_are_numpys_and_the_same_bits_twice(twin, gemm, n_in, n_out, accumulate, kind):
    """Forward with a bias, by the input and by the weight, of a layer of the 124M model; fewer tokens on the twin."""
    module = importlib.import_module("nanograd_gpt.backend.cuda.gemm")
    tokens, dtype = 64 if twin else 8192, inputs_of(kind)
    x, weight, dy, bias = (values(kind, *size) for size in ((tokens, n_in), (n_out, n_in), (tokens, n_out), (n_out,)))
    before = [values(kind, *size) for size in ((tokens, n_out), (tokens, n_in), (n_out, n_in))]
    on_device = [placed(stored(array, dtype), "rows") for array in (x, weight, dy)]
    held = placed(stored(bias, "f4" if kind == "bf16" else dtype)[None], "rows")[0]
    expected = [x @ weight.T + bias, dy @ weight, dy.T @ x]
    runs = []
    for _ in range(2):
        module._plans.clear()  # so that the algorithm is chosen anew
        outs = [placed(stored(array, "f4" if kind == "bf16" else dtype), "rows") for array in before]
        x_d, weight_d, dy_d = on_device
        gemm(x_d, weight_d.T, outs[0], kind, accumulate=accumulate, bias=held)
        gemm(dy_d, weight_d, outs[1], kind, accumulate=accumulate)
        gemm(dy_d.T, x_d, outs[2], kind, accumulate=accumulate)
        runs.append([out.get() for out in outs])
    for once, again, exact, added in zip(*runs, expected, before, strict=True):
        assert np.array_equal(once, again)
        exact = exact + added if accumulate else exact
        bound = TENSOR_CORES if twin is None and kind in ("tf32", "bf16") else 3 * TOLERANCE[kind]
        assert np.linalg.norm(once - exact) < bound * np.linalg.norm(exact)
