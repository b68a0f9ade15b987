"""The compiler's findings about small kernels whose faults are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuda_compile.nvrtc import (
    ARCHITECTURES,
    Compiled,
    CompileError,
    Kernel,
    LocalMemory,
    compile_text,
    needs_nvrtc,
)

SCALE = """
template <class F> __global__ void __launch_bounds__(128, 2) scale(F* x, F by, int n) {
  __shared__ F tile[128];
  int i = blockIdx.x * 128 + threadIdx.x;
  tile[threadIdx.x] = i < n ? x[i] * by : F(0);
  __syncthreads();
  if (i < n) x[i] = tile[127 - threadIdx.x];
}
extern "C" __global__ void clear(float* x) { x[threadIdx.x] = 0.f; }
"""
REVERSE = """
template <int N> __device__ void reverse(const float* x, float* y) {  // N values wait in registers at the barrier
  float a[N];
  #pragma unroll
  for (int i = 0; i < N; ++i) a[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
  #pragma unroll
  for (int i = 0; i < N; ++i) y[(N - 1 - i) * 1024 + threadIdx.x] = a[i] * a[(i * 7) % N];
}
template <int THREADS> __global__ void __launch_bounds__(THREADS) bounded(const float* x, float* y) {
  reverse<96>(x, y);
}
template <int N> __global__ void unbounded(const float* x, float* y) { reverse<N>(x, y); }
"""
HISTOGRAM = """
__global__ void __launch_bounds__(64) histogram(const int* x, int* y, int n) {
  int count[32];
  for (int i = 0; i < 32; ++i) count[i] = 0;
  for (int j = 0; j < n; ++j) ++count[x[j] & 31];
  for (int i = 0; i < 32; ++i) y[i * 64 + threadIdx.x] = count[i];
}
"""
CALLED = """
__device__ __noinline__ void reversed(const int* x, int* y, int n) {
  int a[32];
  for (int j = 0; j < n; ++j) a[j & 31] = x[j];
  for (int j = 0; j < n; ++j) y[j] = a[31 - (j & 31)];
}
__global__ void __launch_bounds__(64) calls(const int* x, int* y, int n) { reversed(x, y, n); }
"""
EM_CUDA = 190  # e_machine of an ELF file for NVIDIA's GPUs


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_are_compiled_with_their_resources_and_bounds(architecture: str) -> None:
    compiled = compile_text(SCALE, ["scale<float>", "scale<double>"], architecture)
    assert compiled.findings() == []
    assert compiled.kernels.keys() == {"scale<float>", "scale<double>", "clear"}
    for name, size in (("scale<float>", 4), ("scale<double>", 8)):
        kernel = compiled.kernels[name]
        assert (kernel.threads, kernel.blocks, kernel.shared, kernel.local) == (128, 2, 128 * size, (0, 0, 0))
        assert 0 < kernel.registers <= 32
    assert compiled.kernels["clear"].threads is None


@needs_nvrtc
def test_the_code_is_machine_code_of_the_architecture() -> None:
    by_architecture = {name: compile_text(SCALE, ["scale<float>"], name).cubin for name in ARCHITECTURES}
    for cubin in by_architecture.values():
        assert cubin[:4] == b"\x7fELF"
        assert int.from_bytes(cubin[18:20], "little") == EM_CUDA
    assert len(set(by_architecture.values())) == len(ARCHITECTURES)


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_kernel_that_spills_under_its_launch_bounds_is_found(architecture: str) -> None:
    compiled = compile_text(REVERSE, ["bounded<256>", "bounded<1024>"], architecture)
    tight = compiled.kernels["bounded<1024>"]
    assert tight.registers <= tight.ceiling == 64
    assert tight.local.spill_stores > 0
    assert tight.local.spill_loads > 0
    (found,) = compiled.findings()
    stack, stores, loads = tight.local
    assert found == f"bounded<1024>: {stack} bytes of stack, {stores} of spill stores, {loads} of spill loads"


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_kernel_without_launch_bounds_is_to_run_in_the_largest_block(architecture: str) -> None:
    compiled = compile_text(REVERSE, ["bounded<256>", "unbounded<64>", "unbounded<96>"], architecture)
    registers = compiled.kernels["unbounded<96>"].registers
    assert compiled.findings() == [
        f"unbounded<96>: {registers} registers, 64 is the most for 1024 threads a block and 1 blocks, as it declares no"
        " __launch_bounds__"
    ]


@needs_nvrtc
def test_an_array_indexed_at_run_time_is_found_in_local_memory() -> None:
    compiled = compile_text(HISTOGRAM, ["histogram"], "sm_90")
    assert compiled.findings() == ["histogram: 128 bytes of stack, 0 of spill stores, 0 of spill loads"]


@needs_nvrtc
def test_the_stack_of_a_called_function_counts_for_the_kernel() -> None:
    compiled = compile_text(CALLED, ["calls"], "sm_90")
    assert len(compiled.called) == 1
    assert compiled.kernels["calls"].local.stack >= 128


@needs_nvrtc
def test_warnings_of_both_compilers_are_found() -> None:
    bounds = "__global__ void __launch_bounds__(1024, 8) f(float* x) {\n  int unused;\n  x[0] = 1.f;\n}\n"
    first, second = compile_text(bounds, ["f"], "sm_90", file="f.cu").findings()
    assert first == 'f.cu(2): warning #177-D: variable "unused" was declared but never referenced'
    assert second.startswith("ptxas warning")
    assert second.endswith(".minnctapersm will be ignored")


@needs_nvrtc
def test_a_syntax_error_gives_the_file_and_the_line() -> None:
    with pytest.raises(CompileError, match=r'broken\.cu\(2\): error: expected a ";"'):
        compile_text("__global__ void f(float* x) {\n  x[0] = 1.f }\n", ["f"], "sm_80", file="broken.cu")


@needs_nvrtc
def test_a_kernel_that_is_not_in_the_file_is_refused_by_its_name() -> None:
    with pytest.raises(CompileError, match='identifier "missing" is undefined'):
        compile_text(SCALE, ["missing<float>"], "sm_80")


@needs_nvrtc
def test_headers_are_found_in_the_include_folder_only(tmp_path: Path) -> None:
    (tmp_path / "common.cuh").write_text("__device__ float twice(float x) { return 2.f * x; }\n")
    text = '#include "common.cuh"\n__global__ void f(float* x) { x[0] = twice(x[0]); }\n'
    assert compile_text(text, ["f"], "sm_80", include=tmp_path).findings() == []
    with pytest.raises(CompileError, match=r"cannot open source file \"common\.cuh\""):
        compile_text(text, ["f"], "sm_80")


@needs_nvrtc
def test_cudas_own_headers_are_not_at_hand() -> None:
    """They are not in every installation, so that a kernel must do without."""
    with pytest.raises(CompileError, match="could not open source file"):
        compile_text("#include <cuda_bf16.h>\n__global__ void f() {}\n", ["f"], "sm_80")


@pytest.mark.parametrize(
    ("threads", "blocks", "ceiling"),
    [(None, 1, 64), (32, 1, 255), (128, 2, 255), (256, 2, 128), (768, 1, 80), (100, 5, 96), (1024, 2, 32)],
)
def test_the_ceiling_is_what_the_registers_of_a_multiprocessor_allow(
    threads: int | None, blocks: int, ceiling: int
) -> None:
    """Registers are allotted to whole warps, 8 a thread."""
    assert Kernel(0, LocalMemory(0, 0, 0), 0, threads, blocks).ceiling == ceiling


def test_registers_and_shared_memory_beyond_what_can_be_launched_are_found() -> None:
    kernels = {
        "wide": Kernel(129, LocalMemory(0, 0, 0), 0, 256, 2),
        "fits": Kernel(128, LocalMemory(0, 0, 0), 48 * 1024, 256, 2),
        "large": Kernel(128, LocalMemory(0, 0, 0), 48 * 1024 + 4, 256, 2),
    }
    assert Compiled("sm_90", b"", kernels, {}, []).findings() == [
        "wide: 129 registers, 128 is the most for 256 threads a block and 2 blocks",
        "large: 49156 bytes of static shared memory",
    ]
