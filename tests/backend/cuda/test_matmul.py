"""The linear layers on the device against the plain formulas on NumPy, and the number of products that they take."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from standin.cupy_standin import installed

from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.backend.plain import matmul as plain
from nanograd_gpt.backend.select import to_device, to_host

rng = np.random.default_rng(1)
BATCHES = [(2, 4), (7,), (1,), (0,), ()]


@pytest.fixture(autouse=True)
def twin():
    with installed() as record:
        yield record.cublaslt


@pytest.fixture
def cuda():
    return importlib.import_module("nanograd_gpt.backend.cuda")


def random(*shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def on_device(value: Any) -> Any:
    """Arrays, those in GradOuts and in lists too; matrices that lie one after the other still do."""
    cp = importlib.import_module("cupy")
    if isinstance(value, list):
        if len(value) > 1 and all(isinstance(v, GradOut) for v in value) and follow([v.array for v in value]):
            arrays = on_device([v.array for v in value])
            return [GradOut(array, v.accumulate) for array, v in zip(arrays, value, strict=True)]
        if len(value) > 1 and all(isinstance(v, np.ndarray) for v in value) and follow(value):
            flat = cp.zeros(sum(v.size for v in value) + 10, dtype=value[0].dtype)
            views = [flat[10 + k * v.size : 10 + (k + 1) * v.size].reshape(v.shape) for k, v in enumerate(value)]
            for view, v in zip(views, value, strict=True):
                view[...] = cp.asarray(v)
            return views
        return [on_device(v) for v in value]
    if isinstance(value, GradOut):
        return GradOut(on_device(value.array), value.accumulate)
    return cp.asarray(value) if isinstance(value, np.ndarray) else value


def follow(arrays: list[Any]) -> bool:
    return all(a.base is not None and a.base is arrays[0].base for a in arrays)


def grad_outs(*shapes: tuple[int, ...], accumulate: bool, dtype: Any) -> list[Any]:
    return [GradOut(random(*shape, dtype=dtype), accumulate) for shape in shapes]


def see_equal(ours: Any, expected: Any, dtype: Any) -> None:
    if isinstance(expected, list):
        for a, b in zip(ours, expected, strict=True):
            see_equal(a, b, dtype)
    elif isinstance(expected, GradOut):
        see_equal(ours.array, expected.array, dtype)
    elif expected is None:
        assert ours is None
    else:
        tolerance = 1e-5 if dtype == np.float32 else 1e-13
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours.get(), expected, rtol=tolerance, atol=tolerance)


def run_on_both(cuda: Any, name: str, dtype: Any, *arguments: Any) -> None:
    """Compare the result, what was written to the GradOuts, and that the inputs are as they were."""
    placed = [on_device(argument) for argument in arguments]
    see_equal(getattr(cuda, name)(*placed), getattr(plain, name)(*arguments), dtype)
    for ours, expected in zip(placed, arguments, strict=True):
        if isinstance(expected, (np.ndarray, GradOut, list)):
            see_equal(ours, expected, dtype)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_is_one_product_with_its_bias(twin, cuda, dtype, batch, with_bias):
    x, weight, bias = random(*batch, 5, dtype=dtype), random(6, 5, dtype=dtype), random(6, dtype=dtype)
    run_on_both(cuda, "linear", dtype, x, weight, bias if with_bias else None)
    if dtype == np.float32 and x.size:
        assert [product.has_bias for product in twin.products] == [with_bias]
    else:
        assert twin.products == []


@pytest.mark.parametrize("accumulate", [True, False])
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_backward_writes_the_weights_gradient_into_its_memory(twin, cuda, dtype, batch, accumulate):
    dy, x, weight = random(*batch, 6, dtype=dtype), random(*batch, 5, dtype=dtype), random(6, 5, dtype=dtype)
    dweight, dbias = grad_outs((6, 5), (6,), accumulate=accumulate, dtype=dtype)
    run_on_both(cuda, "linear_backward", dtype, dy, x, weight, dweight, dbias, True)
    run_on_both(cuda, "linear_backward", dtype, dy, x, weight, None, None, False)
    if dtype == np.float32 and x.size:
        assert [product.beta for product in twin.products] == [float(accumulate), 0.0]


def packed(n: int, rows: int, columns: int, contiguous: bool, dtype: Any) -> list[Any]:
    """n matrices, one after the other in one flat array, or apart."""
    if not contiguous:
        return [random(rows, columns, dtype=dtype) for _ in range(n)]
    flat = random(10 + n * rows * columns, dtype=dtype)
    return [flat[10 + k * rows * columns : 10 + (k + 1) * rows * columns].reshape(rows, columns) for k in range(n)]


@pytest.mark.parametrize("biases", ["all", "none", "some"])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_linear_is_one_product_where_the_weights_are_one_matrix(twin, cuda, dtype, contiguous, biases):
    x, weights = random(2, 4, 5, dtype=dtype), packed(3, 6, 5, contiguous, dtype)
    given = [random(6, dtype=dtype) if biases == "all" or (biases == "some" and k == 1) else None for k in range(3)]
    run_on_both(cuda, "packed_linear", dtype, x, weights, given)
    if dtype == np.float32:
        assert len(twin.products) == (1 if contiguous and biases != "some" else 3)


@pytest.mark.parametrize("with_biases", [True, False])
@pytest.mark.parametrize("accumulate", [True, False])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_linear_backward_is_two_products_where_they_are(twin, cuda, dtype, contiguous, accumulate, with_biases):
    dy, x, weights = random(2, 4, 18, dtype=dtype), random(2, 4, 5, dtype=dtype), packed(3, 6, 5, contiguous, dtype)
    dweights: list[Any] = [GradOut(array, accumulate) for array in packed(3, 6, 5, contiguous, dtype)]
    dbiases: list[Any] = grad_outs(*[(6,)] * 3, accumulate=accumulate, dtype=dtype) if with_biases else [None] * 3
    run_on_both(cuda, "packed_linear_backward", dtype, dy, x, weights, dweights, dbiases, True)
    if dtype == np.float32:
        assert len(twin.products) == (2 if contiguous else 6)
    run_on_both(cuda, "packed_linear_backward", dtype, dy, x, weights, [None, dweights[1], None], [None] * 3, False)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_what_is_not_contiguous_and_not_float32_takes_the_plain_formula(twin, cuda, argument):
    cp = importlib.import_module("cupy")
    hosts = [random(4, 5), random(6, 5), random(6)]
    arrays = [cp.asarray(host) for host in hosts]
    spaced = cp.zeros((*hosts[argument].shape[:-1], 2 * hosts[argument].shape[-1]), dtype="f4")[..., ::2]
    spaced[...] = arrays[argument]
    for replaced in (spaced, arrays[argument].astype("f8")):
        y = cuda.linear(*arrays[:argument], replaced, *arrays[argument + 1 :])
        assert y.dtype == (replaced.dtype if argument < 2 else np.float32)
        np.testing.assert_allclose(y.get(), hosts[0] @ hosts[1].T + hosts[2], rtol=1e-5, atol=1e-5)
    assert twin.products == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 2, 3, 4), (2, 2, 4, 5)), ((0, 4), (4, 5))]
)
def test_a_product_of_matrices_and_of_batches_is_numpys(cuda, shapes, dtype):
    x, y = (np.random.default_rng(1).standard_normal(shape).astype(dtype) for shape in shapes)
    turned = to_device(np.ascontiguousarray(y.swapaxes(-1, -2)), "cuda").swapaxes(-1, -2)
    for right in (to_device(y, "cuda"), turned):
        got = to_host(cuda.matrix_product(to_device(x, "cuda"), right))
        assert (got.shape, got.dtype) == ((x @ y).shape, dtype)
        np.testing.assert_allclose(got, x @ y, rtol=1e-5 if dtype is np.float32 else 1e-12, atol=1e-6)


def test_matrices_that_do_not_fit_are_refused_as_by_cupy(cuda):
    x, y = (to_device(np.ones(shape, np.float32), "cuda") for shape in ((3, 4), (5, 6)))
    with pytest.raises(ValueError, match=r"^(?!gemm)"):
        cuda.matrix_product(x, y)
