"""Barriers, warp primitives, shared memory and asynchronous copies behave as on a GPU, and misuse is found."""

from __future__ import annotations

import numpy as np
import pytest
from cusim.checks import needs_compiler, same_in_every_order
from cusim.errors import SimulatorError
from cusim.memory import HostArray, empty
from cusim.simulator import RawModule, thread_order

pytestmark = needs_compiler

ALL = "0xffffffffu"
CODE = """
#include "mma.cuh"

extern "C" __global__ void divergent_barrier(int* x) {
  if (threadIdx.x < 16)
    __syncthreads();  // line 6
  else
    __syncthreads();  // line 8
}

extern "C" __global__ void barrier_after_return(int* x) {
  if (threadIdx.x >= 40) return;
  __syncthreads();  // line 13
}

extern "C" __global__ void votes(int* x) {
  int odd = threadIdx.x & 1;
  x[0] = __syncthreads_or(odd);
  x[1] = __syncthreads_or(0);
  x[2] = __syncthreads_and(odd);
  x[3] = __syncthreads_and(1);
  x[4] = __syncthreads_count(odd);
}

extern "C" __global__ void exited_lane(int* x) {
  if (threadIdx.x == 5) return;
  x[threadIdx.x] = __shfl_sync(0xffffffffu, int(threadIdx.x), 0);  // line 27
}

extern "C" __global__ void lane_outside_of_the_block(int* x) {
  x[threadIdx.x] = __shfl_sync(0xffffffffu, int(threadIdx.x), 0);
}

extern "C" __global__ void not_in_its_own_mask(int* x) {
  __syncwarp(0x0000fffeu);
}

extern "C" __global__ void from_outside_of_the_mask(int* x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffu, int(threadIdx.x), 16);
}

extern "C" __global__ void one_lane_at_the_barrier(int* x) {
  if (threadIdx.x == 3) __syncthreads();
  __syncwarp();
}

extern "C" __global__ void divergent_primitives(int* x) {
  if (threadIdx.x < 16)
    x[0] = __shfl_sync(0xffffffffu, 1, 0);
  else
    x[1] = __shfl_sync(0xffffffffu, 2, 0);
}

extern "C" __global__ void shuffles(int* x) {
  int i = threadIdx.x;
  int* to = x + i * 8;
  to[0] = __shfl_sync(0xffffffffu, i, 7);
  to[1] = __shfl_sync(0xffffffffu, i, 3, 8);
  to[2] = __shfl_xor_sync(0xffffffffu, i, 5);
  to[3] = __shfl_down_sync(0xffffffffu, i, 3);
  to[4] = __shfl_up_sync(0xffffffffu, i, 3);
  to[5] = __shfl_down_sync(0xffffffffu, i, 1, 4);
  to[6] = int(__ballot_sync(0xffffffffu, i % 3 == 0));
  to[7] = __any_sync(0xffffffffu, i == 9) + 2 * __all_sync(0xffffffffu, i < 64) + 4 * __all_sync(0xffffffffu, i < 9);
}

extern "C" __global__ void halves(double* x) {
  double v = threadIdx.x;
  unsigned half = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
  for (int n = threadIdx.x < 16 ? 4 : 2; n; --n) v += __shfl_xor_sync(half, v, n);
  x[threadIdx.x] = v;
}

template <class T>
__device__ T* scratch() {
  __shared__ T part[32];
  return part;
}

extern "C" __global__ void shared_by_type(float* y) {
  scratch<float>()[threadIdx.x] = 1;
  scratch<double>()[threadIdx.x] = 2;
  __syncthreads();
  y[threadIdx.x] = scratch<float>()[31 - threadIdx.x] + float(scratch<double>()[31 - threadIdx.x]);
}

extern "C" __global__ void unwritten(float* y, int n) {
  extern __shared__ float row[];
  __shared__ float part[4][33];
  for (int i = threadIdx.x; i < n; i += 32) row[i] = part[i & 3][i & 31] = 1;
  __syncthreads();
  y[threadIdx.x] = row[threadIdx.x];
  y[threadIdx.x + 32] = part[threadIdx.x & 3][threadIdx.x];
}

extern "C" __global__ void shared_overrun(float* y, int i, int j) {
  extern __shared__ __align__(16) float row[];
  __shared__ float part[32];  // line 98
  part[threadIdx.x] = row[threadIdx.x] = 1;
  if (i) part[i] += 2;
  if (j) row[j] += 2;
  y[0] = part[0];
}

extern "C" __global__ void copied(const float* x, float* y, int wait) {
  __shared__ __align__(16) float a[32][4];
  __shared__ __align__(16) float b[32][4];
  cp_async16(a[threadIdx.x], x + threadIdx.x * 4, threadIdx.x < 30);
  cp_async_commit();
  cp_async16(b[threadIdx.x], x + threadIdx.x * 4, true);
  cp_async_commit();
  if (wait == 1) cp_async_wait<1>();
  if (wait == 2) cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) {
    y[threadIdx.x * 4 + i] = a[threadIdx.x][i];
    y[threadIdx.x * 4 + i + 128] = b[threadIdx.x][i];
  }
}

extern "C" __global__ void unaligned_copy(const float* x, float* y) {
  __shared__ float a[8];
  cp_async16(a + 4, x + 1, true);  // line 123
}

extern "C" __global__ void tree(const float* x, float* y, int n) {
  __shared__ float part[128];
  float s = 0;
  for (int i = threadIdx.x; i < n; i += 128) s += x[i];
  part[threadIdx.x] = s;
  for (int half = 64; half; half >>= 1) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  if (threadIdx.x == 0) y[blockIdx.x] = part[0];
}

extern "C" __global__ void last_writer(int* y) {
  y[0] = threadIdx.x + 1000 * blockIdx.x;
}
"""


@pytest.fixture(scope="module")
def module() -> RawModule:
    return RawModule(code=CODE)


def ints(n: int) -> HostArray:
    return np.zeros(n, np.int32)


@pytest.mark.parametrize(
    ("kernel", "threads", "message"),
    [
        ("divergent_barrier", 32, "divergent __syncthreads: kernel.cu line 6 and kernel.cu line 8"),
        ("barrier_after_return", 64, "kernel.cu line 13: __syncthreads, but 24 threads have returned"),
        ("exited_lane", 32, "kernel.cu line 27: the mask of a warp primitive names lane 5, which has returned"),
        ("lane_outside_of_the_block", 20, "names lane 20, which the block does not have"),
        ("not_in_its_own_mask", 16, "a lane calls a warp primitive whose mask does not name it"),
        ("from_outside_of_the_mask", 32, "a shuffle reads from a lane that its mask does not name"),
        ("one_lane_at_the_barrier", 32, "a warp primitive waits for lanes of its mask that never come to it"),
        ("divergent_primitives", 32, "divergent warp primitives: "),
        ("unaligned_copy", 1, "kernel.cu line 123: cp.async: an address is not a multiple of 16 bytes"),
    ],
)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_misuse_is_found_in_every_order(module: RawModule, kernel: str, threads: int, message: str, order: int) -> None:
    x = np.zeros(128, np.float32 if kernel == "unaligned_copy" else np.int32)
    args = (x, x) if kernel == "unaligned_copy" else (x,)
    with thread_order(order), pytest.raises(SimulatorError, match=f"^kernel {kernel}: ") as caught:
        module.get_function(kernel)((1,), (threads,), args)
    assert message in str(caught.value)


def test_a_module_goes_on_after_a_failed_launch(module: RawModule) -> None:
    with pytest.raises(SimulatorError):
        module.get_function("divergent_barrier")((1,), (32,), (ints(1),))
    module.get_function("votes")((1,), (64,), (x := ints(5),))
    assert x.tolist() == [1, 0, 0, 1, 32]


def test_shuffles_and_votes_are_cudas(module: RawModule) -> None:
    x, i = ints(64 * 8), np.arange(64)
    module.get_function("shuffles")((1,), (64,), (x,))
    got, lane, warp = x.reshape(64, 8).T, i % 32, i // 32 * 32
    np.testing.assert_array_equal(got[0], warp + 7)
    np.testing.assert_array_equal(got[1], i // 8 * 8 + 3)
    np.testing.assert_array_equal(got[2], i ^ 5)
    np.testing.assert_array_equal(got[3], np.where(lane + 3 < 32, i + 3, i))
    np.testing.assert_array_equal(got[4], np.where(lane < 3, i, i - 3))
    np.testing.assert_array_equal(got[5], np.where(i % 4 == 3, i, i + 1))
    votes = [sum(1 << k for k in range(32) if (first + k) % 3 == 0) for first in (0, 32)]
    np.testing.assert_array_equal(got[6].view(np.uint32), np.repeat(votes, 32))
    np.testing.assert_array_equal(got[7], np.where(i < 32, 3, 2))


def test_parts_of_a_warp_shuffle_by_themselves(module: RawModule) -> None:
    def run() -> HostArray:
        module.get_function("halves")((1,), (32,), (x := empty(32, np.float64),))
        return x

    expected = np.arange(32.0)
    for n, part in ((4, slice(16)), (2, slice(16, 32))):
        for k in range(n, 0, -1):
            expected[part] += expected[(np.arange(32) ^ k)][part]
    np.testing.assert_array_equal(same_in_every_order(run)[0], expected)


def test_a_shared_variable_of_a_template_is_one_for_each_type(module: RawModule) -> None:
    module.get_function("shared_by_type")((2,), (32,), (y := empty(32),))
    assert (y == 3).all()


def test_shared_memory_that_was_not_written_is_nan_in_every_block(module: RawModule) -> None:
    """The second block finds nothing of the first one's."""
    y = empty(64)
    for n in (32, 20):
        module.get_function("unwritten")((2,), (32,), (y, np.int32(n)), shared_mem=128)
        written = np.arange(32) < n
        np.testing.assert_array_equal(y, np.where([written, written], 1, np.nan).ravel())


@pytest.mark.parametrize(
    ("i", "j", "message"),
    [
        (32, 0, "writes outside of the shared variable at kernel.cu line 98"),
        (-1, 0, "writes outside of the shared variable at kernel.cu line 98"),
        (0, 40, "writes outside of dynamic shared memory, 160 bytes"),
    ],
)
def test_a_write_outside_of_a_shared_variable_is_found(module: RawModule, i: int, j: int, message: str) -> None:
    run, y = module.get_function("shared_overrun"), empty(1)
    run((1,), (32,), (y, np.int32(0), np.int32(39)), shared_mem=160)
    with pytest.raises(SimulatorError, match=message):
        run((1,), (32,), (y, np.int32(i), np.int32(j)), shared_mem=160)


def test_an_asynchronous_copy_is_nan_until_it_was_waited_for(module: RawModule) -> None:
    x = np.arange(128, dtype=np.float32)
    zero_filled = np.where(np.arange(128) < 120, x, 0)
    for wait, expected in ((0, [x * np.nan, x * np.nan]), (1, [zero_filled, x * np.nan]), (2, [zero_filled, x])):
        module.get_function("copied")((1,), (32,), (x, y := empty(256), np.int32(wait)))
        np.testing.assert_array_equal(y, np.concatenate(expected))


def test_a_reduction_with_its_barriers_gives_the_same_bits_in_three_orders(module: RawModule) -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)

    def run() -> HostArray:
        module.get_function("tree")((3,), (128,), (x, y := empty(3), np.int32(1000)))
        return y

    (y,) = same_in_every_order(run)
    np.testing.assert_allclose(y, np.full(3, x.astype(np.float64).sum()), rtol=1e-5)


def test_the_order_of_threads_and_blocks_is_the_one_asked_for(module: RawModule) -> None:
    last = []
    for order in (0, 1, 2, 3, 2):
        with thread_order(order):
            module.get_function("last_writer")((5,), (64,), (y := ints(1),))
        last.append(int(y[0]))
    assert last[:2] == [4063, 0]
    assert last[2] == last[4]
    assert len({*last}) == 4
