"""gemm() against NumPy, through the twin of cuBLASLt: each layout, shape, kind of arithmetic, bias and accumulation."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
from cublaslt_twin import Twin, bf16_bits, bf16_values
from standin.cupy_standin import installed

from nanograd_gpt.errors import RunError

SHAPES = [(3, 5, 7), (1, 5, 7), (3, 1, 7), (3, 5, 1), (1, 1, 1), (1, 1, 4), (8, 8, 8)]  # M, N, K
PLACES = ("rows", "columns", "part of rows", "part of columns")
OUTPUTS = {"float32": ["f4"], "tf32": ["f4"], "bf16": ["f4", "u2"], "float64": ["f8"]}
TOLERANCE = {"float32": 1e-6, "tf32": 1e-6, "float64": 1e-14, "bf16": 1e-6}  # inputs are exact in their type
AROUND = {"f4": 99.0, "f8": 99.0, "u2": 99}  # sentinels
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def twin():
    with installed() as record:
        yield record.cublaslt


@pytest.fixture
def gemm():
    return importlib.import_module("nanograd_gpt.backend.cuda.gemm").gemm


def values(kind: str, *shape: int) -> Any:
    """Random numbers that the kind's inputs hold exactly, as float64: TF32's and bfloat16's of few bits."""
    numbers = rng.standard_normal(shape).astype(np.float32)
    if kind in ("tf32", "bf16"):
        numbers = bf16_values(bf16_bits(numbers))
    return numbers.astype(np.float64)


def stored(numbers: Any, dtype: str) -> Any:
    return bf16_bits(numbers.astype(np.float32)) if dtype == "u2" else numbers.astype(dtype)


def read(array: Any) -> Any:
    host = array.get()
    return (bf16_values(host) if host.dtype == np.uint16 else host).astype(np.float64)


def placed(host: Any, place: str) -> Any:
    """The matrices on the device, lying as `place` says; around a part lie sentinels."""
    cp = importlib.import_module("cupy")
    turned = host.swapaxes(-1, -2) if "columns" in place else host
    if "part" in place:
        rows, columns = turned.shape[-2:]
        whole = np.full((*turned.shape[:-2], rows + 2, columns + 8), AROUND[host.dtype.str[1:]], dtype=host.dtype)
        whole[..., 1:-1, 4:-4] = turned
        array = cp.asarray(whole)[..., 1:-1, 4:-4]
    else:
        array = cp.asarray(np.ascontiguousarray(turned))
    return array.swapaxes(-1, -2) if "columns" in place else array


def inputs_of(kind: str) -> str:
    return {"bf16": "u2", "float64": "f8"}.get(kind, "f4")


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
    tolerance = 5e-3 if output == "u2" else TOLERANCE[kind]
    np.testing.assert_allclose(read(out), expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max()))
    if "part" in places[2]:
        around = out.base.get().reshape(M + 2, N + 8)
        around[1:-1, 4:-4] = AROUND[output]
        assert (around == AROUND[output]).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_product_is_numpys_wherever_its_matrices_lie(twin, gemm, kind, shape):
    cases = itertools.product(PLACES, PLACES, ["rows", "part of rows"], OUTPUTS[kind], [False, True], [False, True])
    n = 0
    for in_a, in_b, in_out, output, accumulate, with_bias in cases:
        multiply(gemm, kind, shape, (in_a, in_b, in_out), output, accumulate, with_bias)
        n += 1
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


def test_tf32_rounds_its_inputs_and_float32_does_not(gemm):
    cp = importlib.import_module("cupy")
    a = cp.asarray(np.array([[1 + 2**-12]], dtype="f4"))
    exact, rounded = cp.empty((1, 1), dtype="f4"), cp.empty((1, 1), dtype="f4")
    gemm(a, a, exact, "float32")
    gemm(a, a, rounded, "tf32")
    assert exact.get() == np.float32(1 + 2**-11)
    assert rounded.get() == 1


def test_bf16_is_summed_in_float32_and_rounded_once(gemm):
    cp = importlib.import_module("cupy")
    a = cp.asarray(bf16_bits(np.full((1, 1024), 1 + 2**-7, dtype=np.float32)))
    wide, narrow = cp.empty((1, 1), dtype="f4"), cp.empty((1, 1), dtype="u2")
    ones = cp.asarray(bf16_bits(np.ones((1024, 1), dtype=np.float32)))
    gemm(a, ones, wide, "bf16")
    gemm(a, ones, narrow, "bf16")
    assert wide.get() == 1032
    assert bf16_values(narrow.get()) == 1032  # in bf16 alone, 256 + 1 is 256


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
    assert twin.products == []


# --- plans


def test_an_algorithm_is_chosen_once_for_a_shape_and_not_by_timing(twin, gemm):
    cp = importlib.import_module("cupy")
    a, b, out = (cp.ones((8, 8), dtype="f4") for _ in range(3))
    biases = cp.asarray(np.repeat([[0.0], [1.0]], 64, axis=1).astype("f4"))[:, :8]  # 256 bytes apart, as parameters are
    for k in range(4):
        gemm(a, b, out, bias=biases[k % 2])
        assert (out.get() == 8 + k % 2).all()  # the plan takes each bias's address anew
    assert (twin.heuristics, len(twin.products)) == (1, 4)
    gemm(a, b, out)
    gemm(a.T, b, out)
    gemm(a, b, out, "tf32")
    gemm(a[:4], b, out[:4])
    assert twin.heuristics == 5


def test_another_alignment_is_another_plan(twin, gemm):
    """The heuristic may choose loads of 16 bytes at once; a view that begins at an odd element needs others."""
    cp = importlib.import_module("cupy")
    flat, b, out = cp.ones(65, dtype="f4"), cp.ones((8, 8), dtype="f4"), cp.empty((8, 8), dtype="f4")
    for begin in (0, 1, 0, 1):
        gemm(flat[begin : begin + 64].reshape(8, 8), b, out)
        assert (out.get() == 8).all()
    assert (twin.heuristics, twin.refusals) == (2, [])


def test_the_workspace_is_allocated_once(gemm):
    module = importlib.import_module("nanograd_gpt.backend.cuda.gemm")
    cp = importlib.import_module("cupy")
    a, out = cp.ones((8, 8), dtype="f4"), cp.empty((8, 8), dtype="f4")
    for kind in ("float32", "tf32"):
        gemm(a, a, out, kind)
    assert [array.nbytes for array in module._workspaces.values()] == [module.WORKSPACE]


def test_nothing_waits_for_the_device(gemm):
    cp = importlib.import_module("cupy")
    a, out = cp.ones((8, 8), dtype="f4"), cp.empty((8, 8), dtype="f4")
    with installed() as record:
        gemm(a, a, out)
        assert (record.syncs, record.uploads) == ([], [])


# --- refusals


@pytest.mark.parametrize(
    ("a", "b", "out", "bias", "kind", "error", "says"),
    [
        ("f4 2 3", "f4 4 5", "f4 2 5", None, "float32", ValueError, r"\(2, 3\) @ \(4, 5\) -> \(2, 5\)"),
        ("f4 2 3", "f4 3 5", "f4 5 2", None, "float32", ValueError, "do not fit"),
        ("f4 2 3", "f4 3 5", "f4 2 5", "f4 2", "float32", ValueError, r"with a bias \(2,\)"),
        ("f4 3", "f4 3 5", "f4 5", None, "float32", ValueError, "do not fit"),
        ("f4 4 2 3", "f4 3 5", "f4 2 5", None, "float32", ValueError, "do not fit"),
        ("f4 4 2 3", "f4 2 3 5", "f4 4 2 5", None, "float32", ValueError, "do not fit"),
        ("f8 2 3", "f4 3 5", "f4 2 5", None, "float32", TypeError, "float64 @ float32 -> float32 is not of kind"),
        ("f4 2 3", "f4 3 5", "f8 2 5", None, "float32", TypeError, "inputs float32, output float32"),
        ("f4 2 3", "f4 3 5", "f4 2 5", None, "bf16", TypeError, "inputs uint16, output uint16 or float32"),
        ("u2 2 3", "u2 3 5", "u2 2 5", "f4 5", "bf16", TypeError, "with a bias of float32"),
        ("f4 2 3", "f4 3 5", "f4 2 5", None, "float64", TypeError, "kind 'float64'"),
    ],
)
def test_shapes_and_dtypes_that_do_not_fit_are_named(twin, gemm, a, b, out, bias, kind, error, says):
    cp = importlib.import_module("cupy")

    def array(text: str | None) -> Any:
        if text is None:
            return None
        dtype, *shape = text.split()
        return cp.zeros([int(n) for n in shape], dtype=dtype)

    with pytest.raises(error, match=says):
        gemm(array(a), array(b), array(out), kind, bias=array(bias))
    assert twin.products == []


def test_strides_that_no_layout_has_are_named(twin, gemm):
    cp = importlib.import_module("cupy")
    a = cp.ones((8, 8), dtype="f4")
    for strided in (cp.ones((16, 16), dtype="f4")[::2, ::2], a[:, ::-1], a[::-1], cp.broadcast_to(a[:1], (8, 8))):
        with pytest.raises(ValueError, match=r"a with shape .* lies neither by rows nor by columns"):
            gemm(strided, a, cp.empty((8, 8), dtype="f4"))
    with pytest.raises(ValueError, match=r"out with shape .* does not lie by rows"):
        gemm(a, a, cp.empty((8, 8), dtype="f4").T)
    with pytest.raises(ValueError, match="does not lie by rows, once each"):
        gemm(cp.ones((2, 8, 8), dtype="f4"), a, cp.broadcast_to(a, (2, 8, 8)))
    with pytest.raises(ValueError, match=r"bias with strides \(8,\) is not contiguous"):
        gemm(a, a, cp.empty((8, 8), dtype="f4"), bias=cp.ones(16, dtype="f4")[::2])
    assert twin.products == []


def test_a_failure_of_the_library_is_one_line(twin: Twin, gemm):
    cp = importlib.import_module("cupy")
    a = cp.ones((8, 8), dtype="f4")
    twin.no_algorithm = True
    with pytest.raises(
        RunError, match=r"cuBLASLt 13\.1\.0 has no algorithm for \(8, 8\) @ \(8, 8\) in float32, by rows"
    ):
        gemm(a, a, a.copy())
    twin.no_algorithm = False
    gemm(a, a, a.copy())
    twin.fails_with = 13
    with pytest.raises(RunError, match=r"\(8, 8\) @ .*: execution failed \(status 13\)$"):
        gemm(a, a, a.copy())
