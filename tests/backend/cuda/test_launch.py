"""backend/cuda/launch.py: arguments that a kernel would misread are refused, and all others arrive as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cusim.checks import needs_compiler
from standin.record import Record

from nanograd_gpt.backend.select import to_host

pytestmark = needs_compiler
OnGPU = Callable[..., Any]
TEXT = """
template <class T>
__global__ void __launch_bounds__(32) scaled(
    const T* __restrict__ x, T* __restrict__ y, float factor, int n, long long shift, bool negative
) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = (negative ? -x[i] : x[i]) * factor + static_cast<T>(shift);
}
__global__ void __launch_bounds__(32) filled(unsigned* x, const float* y) { x[threadIdx.x] = y ? 1u : 2u; }
"""


@pytest.fixture
def source(standin: Record | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    from nanograd_gpt.backend.cuda import launch

    (tmp_path / "test.cu").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(launch, "FOLDER", tmp_path)
    return launch.Source("test.cu", "scaled<float>", "scaled<double>", "filled")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_and_arrays_arrive_as_the_source_declares_them(dtype: Any, source: Any, on_gpu: OnGPU) -> None:
    x, y = on_gpu(np.arange(40, dtype=dtype), np.zeros(40, dtype))
    kernel = f"scaled<{'float' if dtype is np.float32 else 'double'}>"
    source.launch(kernel, (2,), (32,), x, y, 0.5, 40, 2**31 + 5, True)
    np.testing.assert_array_equal(to_host(y), (np.arange(40, dtype=dtype) * dtype(-0.5)) + dtype(2**31 + 5))


def test_none_is_a_null_pointer(source: Any, on_gpu: OnGPU) -> None:
    x = on_gpu(np.zeros(32, np.uint32))
    source.launch("filled", (1,), (32,), x, None)
    assert (to_host(x) == 2).all()
    source.launch("filled", (1,), (32,), x, on_gpu(np.zeros(1, np.float32)))
    assert (to_host(x) == 1).all()


def test_an_empty_grid_launches_nothing(source: Any, simulator: Record, on_gpu: OnGPU) -> None:
    x, y = on_gpu(np.zeros(0, np.float32), np.zeros(0, np.float32))
    source.launch("scaled<float>", (0,), (32,), x, y, 1.0, 0, 0, False)
    assert simulator.launches == []


WRONG: dict[str, tuple[Callable[[Any, Any], tuple[Any, ...]], type[Exception], str]] = {
    "dtype": (lambda x, y: (x.astype(np.float64), y, 1.0, 8, 0, False), TypeError, "x is of float64, expected float32"),
    "view": (lambda x, y: (x[::2], y, 1.0, 4, 0, False), ValueError, "x of shape (16,) is not contiguous"),
    "alignment": (lambda x, y: (x, y[1:], 1.0, 8, 0, False), ValueError, "y begins at an address that is not a multi"),
    "host": (lambda x, y: (np.zeros(8, np.float32), y, 1.0, 8, 0, False), TypeError, "x is a ndarray, expected a CuPy"),
    "number": (lambda x, y: (x, y, 1.0, 2**31, 0, False), OverflowError, "out of bounds for int32"),
    "too few": (lambda x, y: (x, y, 1.0), TypeError, "3 arguments for 6 parameters"),
}


@pytest.mark.parametrize(("arguments", "kind", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_a_kernel_would_misread_is_refused_and_named(
    arguments: Any, kind: type[Exception], message: str, source: Any, on_gpu: OnGPU
) -> None:
    x, y = on_gpu(np.zeros(32, np.float32), np.zeros(32, np.float32))
    with pytest.raises(kind, match=re.escape(message)):
        source.launch("scaled<float>", (1,), (32,), *arguments(x, y))


def test_a_grid_that_no_gpu_has_is_refused(source: Any, on_gpu: OnGPU) -> None:
    x, y = on_gpu(np.zeros(8, np.float32), np.zeros(8, np.float32))
    with pytest.raises(ValueError, match=r"a grid of \(1, 65536\) blocks is larger"):
        source.launch("scaled<float>", (1, 65536), (32,), x, y, 1.0, 8, 0, False)
