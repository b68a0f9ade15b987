"""cupy.RawModule of the stand-in runs CUDA kernels on its arrays, by the simulator."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cusim.checks import needs_compiler, races_of, same_in_every_order
from cusim.errors import SimulatorError
from standin.cupy_standin import installed
from standin.record import Record

CODE = """
template <class T>
__global__ void axpy(const T* x, T* y, int n, T a) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
__global__ void copied_if_there(const float* x, float* y) {
  y[threadIdx.x] = x ? x[threadIdx.x] : -1.f;
}
"""
NAMES = ["axpy<float>", "axpy<int>", "copied_if_there"]
OPTIONS = ("--std=c++17",)


@pytest.fixture
def module(cp: ModuleType) -> Any:
    return cp.RawModule(code=CODE, options=OPTIONS, name_expressions=NAMES)


@needs_compiler
def test_a_kernel_writes_into_device_arrays_and_its_launch_is_recorded(
    cp: ModuleType, module: Any, standin: Record
) -> None:
    x, y = cp.arange(300, dtype=cp.float32), cp.ones((3, 100), dtype=cp.float32)
    axpy = module.get_function("axpy<float>")
    axpy((3,), (128,), (x, y, np.int32(300), np.float32(2)))
    axpy((3,), (128,), (x[1:], y[1], np.int32(100), np.float32(1)))
    module.get_function("copied_if_there")((1,), (32,), (np.uintp(0), x))
    assert standin.launches == ["axpy<float>", "axpy<float>", "copied_if_there"]
    assert standin.syncs == standin.uploads == []
    host = np.arange(300, dtype=np.float32)
    expected = (2 * host + 1).reshape(3, 100)
    expected[1] += host[1:101]
    np.testing.assert_array_equal(y.get(), expected)
    assert x[:33].get().tolist() == [*[-1] * 32, 32]


@needs_compiler
def test_the_record_of_launches_starts_anew_with_the_next_block(cp: ModuleType, module: Any, standin: Record) -> None:
    module.get_function("copied_if_there")((1,), (1,), (None, cp.empty(1, dtype=cp.float32)))
    assert standin.launches == ["copied_if_there"]
    with installed() as record:
        assert record.launches == []


@needs_compiler
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({2: 300}, "argument 2 is a plain int, which arrives as long long, its parameter int"),
        ({3: 2.0}, "argument 3 is a plain float, which arrives as double, its parameter float"),
        ({0: "double"}, "argument 0 is an array of double, its parameter an array of float"),
    ],
)
def test_what_cupy_would_pass_with_other_bytes_is_refused(
    cp: ModuleType, module: Any, change: Any, message: str
) -> None:
    x = cp.ones(300, dtype=cp.float32)
    args = [x, x, np.int32(300), np.float32(2)]
    for i, value in change.items():
        args[i] = x.astype(value) if isinstance(value, str) else value
    with pytest.raises(SimulatorError, match=message):
        module.get_function("axpy<float>")((3,), (128,), tuple(args))


@needs_compiler
def test_a_host_array_is_refused(cp: ModuleType, module: Any) -> None:
    x = cp.ones(4, dtype=cp.float32)
    for host in (np.ones(4, np.float32), np.array(1.0, np.float32)):
        with pytest.raises(TypeError, match=r"You are trying to pass a numpy\.ndarray of shape"):
            module.get_function("copied_if_there")((1,), (4,), (host, x))


@needs_compiler
def test_a_grid_is_a_tuple_and_not_empty(cp: ModuleType, module: Any) -> None:
    x = cp.ones(4, dtype=cp.float32)
    with pytest.raises(TypeError, match="Expected tuple, got list"):
        module.get_function("copied_if_there")([1], (4,), (x, x))
    with pytest.raises(SimulatorError, match=r"a grid of \(0, 1, 1\)"):
        module.get_function("copied_if_there")((0,), (4,), (x, x))


@needs_compiler
def test_more_than_48_kib_of_shared_memory_are_asked_for_as_in_cupy(cp: ModuleType, module: Any) -> None:
    function, x = module.get_function("copied_if_there"), cp.ones(4, dtype=cp.float32)
    with pytest.raises(SimulatorError, match="set max_dynamic_shared_size_bytes for more"):
        function((1,), (4,), (x, x), shared_mem=50_000)
    function.max_dynamic_shared_size_bytes = 50_000
    function((1,), (4,), (x, x), shared_mem=50_000)
    assert function.max_dynamic_shared_size_bytes == 50_000


@needs_compiler
def test_a_write_outside_of_a_device_array_is_found_also_within_the_memory_that_owns_it(
    cp: ModuleType, module: Any
) -> None:
    x = cp.ones(100, dtype=cp.float32)
    with pytest.raises(SimulatorError, match=r"kernel\.cu line 5: a write outside of argument 1"):
        module.get_function("axpy<float>")((1,), (64,), (x[50:90], x[10:40], np.int32(31), np.float32(2)))


@needs_compiler
def test_what_was_never_written_is_read_as_nan(cp: ModuleType, module: Any) -> None:
    y = cp.ones(4, dtype=cp.float32)
    module.get_function("axpy<float>")((1,), (4,), (cp.empty(3, dtype=cp.float32), y, np.int32(3), np.float32(1)))
    np.testing.assert_array_equal(y.get(), [np.nan] * 3 + [1])


@needs_compiler
def test_kernels_on_device_arrays_can_be_checked_for_orders_and_races(cp: ModuleType, module: Any) -> None:
    def run() -> Any:
        x, y = cp.arange(90, dtype=cp.int32), cp.zeros(90, dtype=cp.int32)
        module.get_function("axpy<int>")((3,), (32,), (x, y, np.int32(90), np.int32(3)))
        return y

    assert same_in_every_order(run)[0].tolist() == [3 * i for i in range(90)]
    assert races_of(run) == []


def test_arguments_that_are_not_cupys_are_type_errors_and_the_rest_is_not_emulated(cp: ModuleType) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'names'"):
        cp.RawModule(code=CODE, names=NAMES)
    with pytest.raises(TypeError, match="expected tuple, got list"):
        cp.RawModule(code=CODE, options=[*OPTIONS])
    with pytest.raises(TypeError):
        cp.RawModule(CODE)
    for options in ({"path": "kernels.cubin"}, {"code": CODE, "backend": "nvcc"}, {"code": CODE, "jitify": True}):
        with pytest.raises(NotImplementedError, match="of a text only"):
            cp.RawModule(**options)


def test_without_a_compiler_one_line_says_so(cp: ModuleType, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        SimulatorError, match=r"^no C\+\+ compiler 'no-such-compiler': install g\+\+, or name one by CXX$"
    ):
        module.get_function("axpy<float>")


def test_without_a_gpu_no_kernel_is_made() -> None:
    with installed(available=False):
        import cupy

        module = cupy.RawModule(code=CODE, options=OPTIONS, name_expressions=NAMES)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="no CUDA-capable device"):
            module.get_function("axpy<float>")


@needs_compiler
def test_kernels_can_be_made_again_after_the_block(cp: ModuleType, module: Any) -> None:
    assert module.get_function("axpy<float>").name == "axpy<float>"
    assert (module.code, module.options, module.name_expressions) == (CODE, OPTIONS, tuple(NAMES))
