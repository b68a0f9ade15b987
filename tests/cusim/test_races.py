"""ThreadSanitizer finds the races that no order of threads shows in the result, and none where there is none."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cusim import checks, compiler
from cusim.checks import needs_compiler, races_of, same_in_every_order
from cusim.memory import empty
from cusim.simulator import RawModule

pytestmark = needs_compiler

CODE = """
#include "mma.cuh"

extern "C" __global__ void late_phase(float* y) {
  __shared__ float part[64];
  part[threadIdx.x] = 1;
  __syncthreads();
  float v = part[63 - threadIdx.x];
  __syncthreads();
  part[0] = v;  // racy: late phase
  __syncthreads();
  y[threadIdx.x] = part[0];
}

extern "C" __global__ void after_shuffles(float* y) {
  __shared__ float part[32];
  float v = 1;
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  part[threadIdx.x / 2] = v;  // racy: after shuffles
  __syncwarp();
  y[threadIdx.x] = part[threadIdx.x / 2];
}

extern "C" __global__ void two_blocks(float* y) {
  y[threadIdx.x] = 3;  // racy: two blocks
}

// the block that comes last adds the partial sums
template <bool FENCE>
__global__ void last_block(const int* x, int* partial, unsigned* count, int* y) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = x[blockIdx.x];  // racy: partial sum
    if (FENCE) __threadfence();
    last = atomicAdd(count, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int s = 0;
    for (int i = 0; i < gridDim.x; ++i) s += partial[i];  // racy: last block
    y[0] = s;
  }
}

template <bool BARRIER>
__global__ void copied(const float* x, float* y) {
  __shared__ __align__(16) float tile[64][4];
  cp_async16(tile[threadIdx.x], x + threadIdx.x * 4, true);  // racy: start of a copy
  cp_async_commit();
  cp_async_wait<0>();
  if (BARRIER) __syncthreads();
  float v = threadIdx.x < 32 ? 0 : tile[threadIdx.x - 32][0];  // racy: read of a copy
  y[threadIdx.x] = v;
}

extern "C" __global__ void without_races(const u16* a, float* y) {
  __shared__ __align__(16) u16 tile[2][16 * 16];
  __shared__ float part[2];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (int i = 0; i < 3; ++i) {
    cp_async16(tile[warp] + lane * 8, a + lane * 8, true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    u32 f[4];
    ldmatrix4<false>(f, tile[1 - warp] + (lane & 15) * 16 + (lane >> 4) * 8);
    float d[4] = {0, 0, 0, 0};
    mma_bf16(d, f, f[0], f[2]);
    float s = d[0] + d[1] + d[2] + d[3];
    unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
    for (int n = lane < 16 ? 3 : 2; n; --n) s += __shfl_xor_sync(half, s, n);
    for (int o = 16; o; o >>= 1) s += __shfl_xor_sync(0xffffffffu, s, o);
    if (lane == 0) part[warp] = s;
    __syncthreads();
    if (threadIdx.x == 0) y[blockIdx.x] = part[0] + part[1];
  }
}
"""
NAMES = ["late_phase", "after_shuffles", "two_blocks", "without_races"]
NAMES += [f"{name}<{value}>" for name in ("last_block", "copied") for value in ("true", "false")]


@pytest.fixture(scope="module")
def module() -> RawModule:
    return RawModule(code=CODE, name_expressions=NAMES)


def line(marked: str) -> str:
    return f"kernel.cu line {CODE[: CODE.index(f'// racy: {marked}')].count(chr(10)) + 1}"


def last_block(module: RawModule, fence: str) -> Callable[[], Any]:
    def run() -> Any:
        partial, y, x = empty(6, np.int32), empty(1, np.int32), np.arange(6, dtype=np.int32)
        module.get_function(f"last_block<{fence}>")((6,), (32,), (x, partial, np.zeros(1, np.uint32), y))
        return y

    return run


@pytest.mark.parametrize(
    ("kernel", "grid", "threads"), [("late_phase", 1, 64), ("after_shuffles", 1, 32), ("two_blocks", 2, 32)]
)
def test_two_threads_that_write_one_place_are_found(module: RawModule, kernel: str, grid: int, threads: int) -> None:
    def run() -> Any:
        module.get_function(kernel)((grid,), (threads,), (y := empty(threads),))
        return y

    same_in_every_order(run)
    place = line(kernel.replace("_", " "))
    assert races_of(run) == [f"{place} and {place}"]


def test_partial_sums_that_another_block_reads_need_a_fence(module: RawModule) -> None:
    run = last_block(module, "false")
    assert same_in_every_order(run)[0] == 15
    assert races_of(run) == [f"{line('partial sum')} and {line('last block')}"]
    assert races_of(last_block(module, "true")) == []


def test_a_copy_that_another_thread_waited_for_needs_a_barrier(module: RawModule) -> None:
    def run(barrier: str) -> Any:
        x = np.arange(256, dtype=np.float32)
        module.get_function(f"copied<{barrier}>")((1,), (64,), (x, y := empty(64)))
        return y

    same_in_every_order(lambda: run("true"))
    assert races_of(lambda: run("true")) == []
    assert races_of(lambda: run("false")) == [f"{line('start of a copy')} and {line('read of a copy')}"]


def test_barriers_warp_primitives_copies_and_products_are_no_races(module: RawModule) -> None:
    def run() -> Any:
        a = (np.random.default_rng(0).standard_normal(256).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        module.get_function("without_races")((3,), (64,), (a, y := empty(3)))
        return y

    assert np.isfinite(same_in_every_order(run)[0]).all()
    assert races_of(run) == []


def test_without_a_thread_sanitizer_the_check_skips_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="no C"):
        races_of(lambda: None)
    monkeypatch.setattr(compiler, "missing_compiler", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="no setarch"):
        races_of(lambda: None)


def test_a_check_of_no_launch_fails() -> None:
    with pytest.raises(AssertionError, match="no kernel was launched"):
        checks.races_of(lambda: None)


@pytest.mark.skipif(shutil.which("setarch") is None, reason="no setarch")
def test_setarch_runs_a_program_where_addresses_are_not_random(tmp_path: Path) -> None:
    program = compiler.build('#include <cstdio>\nint main() { std::printf("%p", (void*)main); }', ["-pie"], suffix="")
    runs = [subprocess.run(compiler.without_random_addresses(program), capture_output=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout
