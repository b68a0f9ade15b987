"""Bytes and multiplications of a launch are counted, without a change to its results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cusim.checks import needs_compiler
from cusim.memory import empty
from cusim.simulator import RawModule, counted_launches
from project_files import PACKAGE

pytestmark = needs_compiler

CODE = """
#include "common.cuh"
#include "mma.cuh"

extern "C" __global__ void scale(const float* x, float* y, int n, float a) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = fmaf(a, x[i], 1.0f);
}

extern "C" __global__ void in_packs(const float* x, float* y) {
  store_pack(y + 4 * threadIdx.x, load_pack(x + 4 * threadIdx.x));
}

extern "C" __global__ void halves(const unsigned short* x, double* y) {
  y[threadIdx.x] += x[threadIdx.x];
}

extern "C" __global__ void reversed_by_shared_memory(const float* x, float* y) {
  __shared__ float tile[64];
  float own[4];
  for (int i = 0; i < 4; ++i) own[i] = x[threadIdx.x];
  tile[threadIdx.x] = own[threadIdx.x % 4];
  __syncthreads();
  y[threadIdx.x] = tile[63 - threadIdx.x];
}

extern "C" __global__ void asynchronous(const float* x, float* y, bool there) {
  __shared__ __align__(16) float tile[128];
  cp_async16(tile + 4 * threadIdx.x, x + 4 * threadIdx.x, there);
  cp_async_commit();
  cp_async_wait<0>();
  y[threadIdx.x] = tile[4 * threadIdx.x];
}

extern "C" __global__ void products(float* y, int n) {
  u32 a[4] = {};
  float d[4] = {};
  for (int i = 0; i < n; ++i) mma_bf16(d, a, 0, 0);
  y[threadIdx.x] = d[0];
}

extern "C" __global__ void votes(int* count) {
  if (threadIdx.x % 2) atomicAdd(count, 1);
}
"""
OPTIONS = ("-std=c++17", f"-I{PACKAGE / 'backend' / 'cuda'}")
MODULE = RawModule(code=CODE, options=OPTIONS)


def counted(kernel: str, grid: int, block: int, *arguments: Any) -> Any:
    with counted_launches() as launches:
        MODULE.get_function(kernel)((grid,), (block,), arguments)
    (counts,) = launches
    assert counts.kernel == kernel
    return counts


def x(n: int, dtype: Any = np.float32) -> Any:
    return np.arange(n).astype(dtype)


def test_bytes_are_counted_by_array_and_fused_multiplications_by_call() -> None:
    y = empty(100)
    counts = counted("scale", 2, 64, x(100), y, np.int32(90), np.float32(2))
    assert (counts.loaded, counts.stored) == ({0: 360, 1: 0}, {0: 0, 1: 360})
    assert (counts.bytes, counts.fused, counts.flops) == (720, 90, 180)
    np.testing.assert_array_equal(y[:90], 2 * x(90) + 1)


def test_an_access_counts_with_its_size() -> None:
    packs = counted("in_packs", 1, 32, x(128), empty(128))
    assert (packs.loaded[0], packs.stored[1]) == (512, 512)
    halves = counted("halves", 1, 32, x(32, np.uint16), np.zeros(32))
    assert (halves.loaded, halves.stored) == ({0: 64, 1: 256}, {0: 0, 1: 256})


def test_shared_memory_and_a_threads_own_are_not_counted() -> None:
    y = empty(64)
    counts = counted("reversed_by_shared_memory", 1, 64, x(64), y)
    assert counts.loaded[0] in (256, 1024)  # as the compiler keeps a value in a register or loads it again
    assert (counts.stored, counts.loaded[1]) == ({0: 0, 1: 256}, 0)
    np.testing.assert_array_equal(y, x(64)[::-1])


@pytest.mark.parametrize(("there", "loaded"), [(True, 512), (False, 0)])
def test_an_asynchronous_copy_loads_its_bytes_and_zeros_are_free(there: bool, loaded: int) -> None:
    y = empty(32)
    counts = counted("asynchronous", 1, 32, x(128), y, np.bool_(there))
    assert (counts.loaded[0], counts.stored[1]) == (loaded, 128)
    np.testing.assert_array_equal(y, x(128)[::4] * there)


def test_a_product_of_the_tensor_cores_counts_once_a_warp() -> None:
    counts = counted("products", 1, 64, empty(64), np.int32(5))
    assert (counts.fused, counts.tensor, counts.flops) == (0, 10, 10 * 4096)


def test_atomics_are_counted_and_work() -> None:
    count = np.zeros(1, np.int32)
    counts = counted("votes", 1, 64, count)
    assert count[0] == 32
    assert (counts.loaded[0], counts.stored[0]) == (128, 128)


def test_an_array_that_is_given_as_null_is_left_out() -> None:
    with counted_launches() as launches:
        MODULE.get_function("scale")((1,), (32,), (None, empty(1), np.int32(0), np.float32(0)))
    assert launches[0].loaded == {1: 0}


def test_launches_outside_of_the_block_are_not_counted() -> None:
    with counted_launches() as launches:
        pass
    MODULE.get_function("scale")((1,), (32,), (x(4), empty(4), np.int32(4), np.float32(0)))
    assert launches == []


def test_counting_leaves_the_bits_as_they_are() -> None:
    values = np.random.default_rng(1).standard_normal(100, np.float32)
    y, z = empty(100), empty(100)
    counted("scale", 2, 64, values, y, np.int32(100), np.float32(0.3))
    MODULE.get_function("scale")((2,), (64,), (values, z, np.int32(100), np.float32(0.3)))
    np.testing.assert_array_equal(y.view(np.uint32), z.view(np.uint32))
