"""A launch is refused where a GPU would compute nonsense, and an access outside of an array is found with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cusim.checks import needs_compiler
from cusim.errors import SimulatorError
from cusim.memory import empty
from cusim.simulator import RawModule
from ml_dtypes import bfloat16

pytestmark = needs_compiler

CODE = """
struct bf16 { unsigned short bits; };

template <class T>
__global__ void add(const T* x, T* y, int n, T a) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += x[i] + a;  // line 7
}

extern "C" __global__ void put(float* y, long long i, float v) {
  y[i] = v;  // line 11
}

extern "C" __global__ void put4(float* y, int i) {
  *(float4*)(y + i) = make_float4(1, 2, 3, 4);  // line 15
}

extern "C" __global__ void kinds(double* d, const unsigned* u, long long* l, unsigned long long* ul, bf16* h, bool* b,
                                 unsigned n, unsigned long long m, bool yes) {
  if (yes) d[0] = u[0] + l[0] + ul[0] + h[0].bits + b[0] + n + m;
}

extern "C" __global__ void any(void* p, const float* q) {
  if (!q) *(int*)p = 7;
}

extern "C" __global__ void __launch_bounds__(64, 2) bounded(int* x) {
  if (threadIdx.x == 0) x[0] = blockDim.x;
}

extern "C" __global__ void indices(int* x) {
  int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  x[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

extern "C" __global__ void endless(int* x) {
  while (*(volatile int*)x == 0) {
  }
}

extern "C" __global__ void much_shared(float* y) {
  __shared__ float tile[12289];
  tile[threadIdx.x] = 1;
  y[0] = tile[0];
}

extern "C" __global__ void deep(float* y) {
  volatile float local[40000];
  for (int i = 0; i < 40000; ++i) local[i] = i;
  y[0] = local[17];
}
"""
KINDS = ["put", "put4", "kinds", "any", "bounded", "indices", "endless", "much_shared", "deep"]


@pytest.fixture(scope="module")
def module() -> RawModule:
    return RawModule(code=CODE, name_expressions=["add<float>", "add<int>", "add<double>", *KINDS])


def test_a_kernel_runs_with_the_indices_of_every_thread_and_block(module: RawModule) -> None:
    x = np.zeros((12, 24), np.int32)
    module.get_function("indices")((2, 3, 2), (4, 3, 2), (x,))
    np.testing.assert_array_equal(x, np.arange(12)[:, None] * 1000 + np.arange(24))


def test_an_argument_given_twice_is_one_array(module: RawModule) -> None:
    x = np.arange(100, dtype=np.float32)
    module.get_function("add<float>")((2,), (64,), (x[:80], x[:100], np.int32(80), np.float32(1)))
    np.testing.assert_array_equal(x, [2 * i + 1 if i < 80 else i for i in range(100)])


X, N = np.zeros(8, np.float32), np.int32(8)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((X, X, 8, np.float32(1)), "argument 2 is a plain int, which arrives as long long, its parameter int"),
        ((X, X, N, 1.0), "argument 3 is a plain float, which arrives as double, its parameter float"),
        ((X, X, N, np.float64(1)), "argument 3 is double, its parameter float"),
        ((X, X, np.uint32(8), np.float32(1)), "argument 2 is unsigned int, its parameter int"),
        (
            (X, X.astype(np.float64), N, np.float32(1)),
            "argument 1 is an array of double, its parameter an array of float",
        ),
        ((X.astype(np.int32), X, N, np.float32(1)), "argument 0 is an array of int, its parameter an array of float"),
        ((X, np.float32(0), N, np.float32(1)), "argument 1 is float, its parameter an array of float"),
        ((X, X, X, np.float32(1)), "argument 2 is an array of float, its parameter int"),
        ((X, X, None, np.float32(1)), "argument 2 is null, its parameter int"),
        ((X, np.uintp(8), N, np.float32(1)), "argument 1 is unsigned long long, its parameter an array of float"),
        ((X, [1.0], N, np.float32(1)), "argument 1 is a list, its parameter an array of float"),
        ((X, X, N), "3 arguments for 4 parameters"),
    ],
)
def test_an_argument_of_another_type_or_width_is_refused(module: RawModule, args: Any, message: str) -> None:
    with pytest.raises(SimulatorError, match=r"^kernel add<float>: ") as caught:
        module.get_function("add<float>")((1,), (8,), args)
    assert str(caught.value).endswith(message)


def test_every_type_that_the_package_passes_is_taken(module: RawModule) -> None:
    d, bits = empty(1, np.float64), np.array([5], np.uint16).view(bfloat16)
    arrays = [np.array([n], t) for n, t in ((1, np.uint32), (2, np.int64), (3, np.uint64))]
    numbers = np.uint32(10), np.uint64(20), np.bool_(True)
    module.get_function("kinds")((1,), (1,), (d, *arrays, bits, np.array([True]), *numbers))
    assert d[0] == 42


@pytest.mark.parametrize("null", [None, np.uintp(0)])
def test_null_and_an_array_of_any_type_for_a_void_pointer_are_taken(module: RawModule, null: Any) -> None:
    x = np.zeros(2, np.int32)
    module.get_function("any")((1,), (1,), (x, null))
    assert x.tolist() == [7, 0]


def test_an_array_without_elements_can_be_passed_and_not_be_written(module: RawModule) -> None:
    nothing = np.zeros(0, np.float32)
    module.get_function("add<float>")((1,), (8,), (nothing, nothing, np.int32(0), np.float32(1)))
    with pytest.raises(SimulatorError, match="outside of all memory"):
        module.get_function("put")((1,), (8,), (nothing, np.int64(0), np.float32(1)))


@pytest.mark.parametrize(
    ("i", "where"),
    [
        (5, "byte 0 after its end"),
        (6, "byte 4 after its end"),
        (-1, "byte 1 before its beginning"),
        (1000, "byte 3980 after its end"),
    ],
)
def test_a_write_outside_of_an_array_is_found_with_its_line(module: RawModule, i: int, where: str) -> None:
    y = np.zeros(9, np.float32)
    with pytest.raises(SimulatorError) as caught:
        module.get_function("put")((1,), (1,), (y[2:7], np.int64(i), np.float32(1)))
    message = str(caught.value)
    assert message == f"kernel put: kernel.cu line 11: a write outside of argument 0, an array of float: {where}"
    assert not y.any()  # what lies beside it in memory is as it was


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_a_sum_that_is_added_outside_of_an_array_is_found(module: RawModule, dtype: Any) -> None:
    """A nan in the margin would be the same after "+=" if it were a quiet one."""
    name = {"i4": "int", "f4": "float", "f8": "double"}[np.dtype(dtype).str[1:]]
    x, y = np.ones(8, dtype), np.ones(8, dtype)
    with pytest.raises(SimulatorError, match=f"line 7: a write outside of argument 1, an array of {name}: byte "):
        module.get_function(f"add<{name}>")((1,), (32,), (x, y[:5], np.int32(6), dtype(1)))


def test_an_access_far_from_all_arrays_ends_the_launch_and_not_the_process(module: RawModule) -> None:
    message = (
        r"^kernel put: kernel.cu line 11: an access outside of all memory, thread \(0, 0, 0\) of block \(0, 0, 0\)$"
    )
    with pytest.raises(SimulatorError, match=message):
        module.get_function("put")((1,), (1,), (X, np.int64(2**40), np.float32(1)))


def test_16_bytes_at_an_address_that_is_not_a_multiple_of_16_are_found(module: RawModule) -> None:
    y = np.zeros(16, np.float32)
    module.get_function("put4")((1,), (1,), (y, np.int32(4)))
    assert y.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, *[0] * 8]
    with pytest.raises(SimulatorError, match="line 15: an access that is not aligned"):
        module.get_function("put4")((1,), (1,), (y, np.int32(1)))
    with pytest.raises(SimulatorError, match="line 15: an access that is not aligned"):
        module.get_function("put4")((1,), (1,), (y[1:], np.int32(0)))


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0,), (8,), "a grid of (0, 1, 1): from 1 to"),
        ((1, 65536), (8,), "a grid of (1, 65536, 1): from 1 to"),
        ((1,), (1025,), "a block of (1025, 1, 1): 1 to 1024 threads"),
        ((1,), (0,), "a block of (0, 1, 1): 1 to 1024 threads"),
        ((1,), (1, 1, 65), "a block of (1, 1, 65): 1 to 1024 threads are allowed, 64 along z"),
        ((1,), (8.0,), "the block (8.0,) is not a tuple of one to three ints"),
        ((1, 1, 1, 1), (8,), "the grid (1, 1, 1, 1) is not a tuple of one to three ints"),
    ],
)
def test_a_grid_or_block_that_no_gpu_takes_is_refused(module: RawModule, grid: Any, block: Any, message: str) -> None:
    with pytest.raises(SimulatorError) as caught:
        module.get_function("put")(grid, block, (X, np.int64(0), np.float32(1)))
    assert str(caught.value).startswith(f"kernel put: {message}")


def test_more_threads_than_the_launch_bounds_are_refused(module: RawModule) -> None:
    x = np.zeros(1, np.int32)
    module.get_function("bounded")((1,), (64,), (x,))
    assert x[0] == 64
    with pytest.raises(SimulatorError, match="a block of 65 threads, over its __launch_bounds__, 64"):
        module.get_function("bounded")((1,), (65,), (x,))


def test_static_shared_memory_over_48_kib_is_refused(module: RawModule) -> None:
    with pytest.raises(SimulatorError, match="kernel much_shared: 49156 bytes of static shared memory, over 48 KiB"):
        module.get_function("much_shared")((1,), (32,), (empty(1),))


def test_more_than_48_kib_of_dynamic_shared_memory_have_to_be_asked_for(module: RawModule) -> None:
    put, args = module.get_function("put"), (X, np.int64(0), np.float32(1))
    put((1,), (1,), args, shared_mem=48 << 10)
    with pytest.raises(
        SimulatorError, match="49168 bytes of dynamic shared memory: 49152 are allowed, set max_dynamic"
    ):
        put((1,), (1,), args, shared_mem=(48 << 10) + 16)
    put.max_dynamic_shared_size_bytes = 100_000
    put((1,), (1,), args, shared_mem=100_000)
    put.max_dynamic_shared_size_bytes = 228 << 10
    with pytest.raises(SimulatorError, match="a GPU's most"):
        put((1,), (1,), args)


def test_a_threads_local_memory_that_is_full_ends_the_launch(module: RawModule) -> None:
    with pytest.raises(SimulatorError, match=r"kernel deep: .*outside of all memory"):
        module.get_function("deep")((1,), (32,), (empty(1),))


def test_a_loop_without_end_ends_the_launch(module: RawModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cusim.simulator.MOST_SECONDS", 1)
    with pytest.raises(
        SimulatorError, match=r"kernel endless: kernel.cu line \d+: no end in the time that a launch may take"
    ):
        module.get_function("endless")((1,), (32,), (np.zeros(1, np.int32),))


def test_a_name_that_is_not_a_kernel_of_the_module_says_which_are(module: RawModule) -> None:
    with pytest.raises(
        SimulatorError, match=r"kernel\.cu has no kernel 'add<short>': it has add<float>, add<int>, add<"
    ):
        module.get_function("add<short>")


def test_without_name_expressions_the_kernels_of_the_text_are_found() -> None:
    module = RawModule(
        code='extern "C" __global__ void\n__launch_bounds__(8) one(int* x) { *x = FILL + ONE; }',
        options=("-DFILL=3", "-DONE"),
    )
    x = np.zeros(1, np.int32)
    module.get_function("one")((1,), (1,), (x,))
    assert (module.names, x[0]) == (["one"], 4)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts a process's mappings in /proc")
def test_a_launch_leaves_no_mappings_of_its_threads_stacks_behind() -> None:
    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text(encoding="ascii").splitlines())

    add = RawModule(code=CODE + "\n// alone", name_expressions=["add<float>"]).get_function("add<float>")
    before = mappings()
    add((1,), (1024,), (np.ones(1024, np.float32), np.ones(1024, np.float32), np.int32(1024), np.float32(1)))
    assert mappings() < before + 100  # two for each of 1,024 threads, if they stayed
