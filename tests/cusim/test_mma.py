"""The twins of the product's tensor-core words compute what PTX says, in its layouts."""

from __future__ import annotations

import numpy as np
import pytest
from cusim.checks import needs_compiler, relative_error, same_in_every_order
from cusim.errors import SimulatorError
from cusim.memory import HostArray, empty
from cusim.simulator import RawModule

pytestmark = needs_compiler

CODE = """
#include "mma.cuh"

// d (16, 8) += a (16, 16) . b (8, 16)^T, loaded by hand as PTX's figures show the fragments
extern "C" __global__ void product(const u16* a, const u16* b, float* d) {
  int g = threadIdx.x >> 2, t = threadIdx.x & 3;
  auto pair = [](const u16* p) { return *(const u32*)p; };
  u32 fa[4] = {pair(a + g * 16 + t * 2), pair(a + (g + 8) * 16 + t * 2), pair(a + g * 16 + t * 2 + 8),
               pair(a + (g + 8) * 16 + t * 2 + 8)};
  float* out[4] = {d + g * 8 + t * 2, d + g * 8 + t * 2 + 1, d + (g + 8) * 8 + t * 2, d + (g + 8) * 8 + t * 2 + 1};
  float f[4];
  for (int i = 0; i < 4; ++i) f[i] = *out[i];
  mma_bf16(f, fa, pair(b + g * 16 + t * 2), pair(b + g * 16 + t * 2 + 8));
  for (int i = 0; i < 4; ++i) *out[i] = f[i];
}

// d (16, 16) = a (16, 16) . b (16, 16), or . b^T without TRANS
template <bool TRANS>
__global__ void by_ldmatrix(const u16* a, const u16* b, float* d) {
  __shared__ __align__(16) u16 sa[16][16];
  __shared__ __align__(16) u16 sb[16][16];
  int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) {
    sa[i >> 4][i & 15] = a[i];
    sb[i >> 4][i & 15] = b[i];
  }
  __syncwarp();
  u32 fa[4], fb[4];
  int m = lane >> 3, r = lane & 7;
  ldmatrix4<false>(fa, &sa[(m & 1) * 8 + r][(m >> 1) * 8]);
  if (TRANS)
    ldmatrix4<true>(fb, &sb[(m & 1) * 8 + r][(m >> 1) * 8]);
  else
    ldmatrix4<false>(fb, &sb[(m >> 1) * 8 + r][(m & 1) * 8]);
  for (int n = 0; n < 2; ++n) {
    float f[4] = {0, 0, 0, 0};
    mma_bf16(f, fa, fb[n * 2], fb[n * 2 + 1]);
    for (int i = 0; i < 4; ++i) d[((lane >> 2) + (i >> 1) * 8) * 16 + n * 8 + (lane & 3) * 2 + (i & 1)] = f[i];
  }
}

extern "C" __global__ void unaligned(u32* y) {
  __shared__ __align__(16) u16 tile[32 * 9];
  u32 f[4];
  ldmatrix4<false>(f, tile + threadIdx.x * 9);
  y[threadIdx.x] = f[0];
}

extern "C" __global__ void convert(const float* x, u16* one, u32* two, float* back, int n) {
  for (int i = 0; i < n; ++i) {
    one[i] = bf16_bits(x[i]);
    two[i] = pack_bf16(x[i], x[n - 1 - i]);
    back[i] = bf_lo(two[i]) + 2 * bf_hi(two[i]);
  }
}

extern "C" __global__ void powers(const float* x, float* y) {
  y[threadIdx.x] = exp2_approx(x[threadIdx.x]);
}
"""
NAMES = ["product", "by_ldmatrix<true>", "by_ldmatrix<false>", "unaligned", "convert", "powers"]


@pytest.fixture(scope="module")
def module() -> RawModule:
    return RawModule(code=CODE, name_expressions=NAMES)


def bits_of(x: HostArray) -> HostArray:
    """bf16 by rounding to the nearest, as PyTorch does."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def values(bits: HostArray) -> HostArray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@pytest.fixture
def a() -> HostArray:
    return bits_of(np.random.default_rng(1).standard_normal((16, 16)))


@pytest.fixture
def b() -> HostArray:
    return bits_of(np.random.default_rng(2).standard_normal((16, 16)))


def test_a_product_of_fragments_is_numpys_and_is_added(module: RawModule, a: HostArray, b: HostArray) -> None:
    start = np.random.default_rng(3).standard_normal((16, 8)).astype(np.float32)

    def run() -> HostArray:
        module.get_function("product")((1,), (32,), (a, b[:8].copy(), d := start.copy()))
        return d

    (d,) = same_in_every_order(run)
    assert relative_error(d, start + values(a) @ values(b[:8]).T) < 1e-7


@pytest.mark.parametrize("trans", [False, True])
def test_ldmatrix_loads_the_fragments_of_a_product(module: RawModule, a: HostArray, b: HostArray, trans: bool) -> None:
    def run() -> HostArray:
        module.get_function(f"by_ldmatrix<{str(trans).lower()}>")((1,), (32,), (a, b, d := empty((16, 16))))
        return d

    (d,) = same_in_every_order(run)
    assert relative_error(d, values(a) @ (values(b) if trans else values(b).T)) < 1e-7


def test_ldmatrix_of_a_row_that_is_not_aligned_is_found(module: RawModule) -> None:
    with pytest.raises(SimulatorError, match=r"kernel.cu line \d+: ldmatrix: a row's address is not a multiple of 16"):
        module.get_function("unaligned")((1,), (32,), (empty(32, np.uint32),))


def test_conversion_to_bf16_rounds_to_the_nearest_even_and_keeps_what_is_not_finite(module: RawModule) -> None:
    halves = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x7F7FFFFF, 0x80000001], np.uint32)
    x = np.concatenate(
        [halves.view(np.float32), np.array([np.inf, -np.inf, np.nan, -np.nan, 0, -0.0, 3.14159, 1e-40], np.float32)]
    )
    n = len(x)
    one, two, back = empty(n, np.uint16), empty(n, np.uint32), empty(n)
    module.get_function("convert")((1,), (1,), (x, one, two, back, np.int32(n)))
    expected = np.where(np.isnan(x), 0x7FFF, bits_of(x)).astype(np.uint16)
    np.testing.assert_array_equal(one, expected)
    assert one[:6].tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F81, 0x7F80, 0x8000]
    np.testing.assert_array_equal(two, expected.astype(np.uint32) | expected[::-1].astype(np.uint32) << 16)
    with np.errstate(invalid="ignore"):  # inf - inf
        np.testing.assert_array_equal(back, (values(expected) + 2 * values(expected[::-1])).astype(np.float32))


def test_exp2_approx_is_2_to_the_x(module: RawModule) -> None:
    x = np.linspace(-20, 5, 32, dtype=np.float32)
    x[0] = -np.inf
    module.get_function("powers")((1,), (32,), (x, y := empty(32)))
    assert relative_error(y, np.exp2(x.astype(np.float64))) < 1e-7
    assert y[0] == 0
