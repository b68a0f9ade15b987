// The C++ twin of the product's mma.cuh: tensor-core products, and copies that go on while the kernel does.
#pragma once
#include "common_ptx.cuh"

__device__ inline float bf_lo(u32 v) {
  return __uint_as_float(v << 16);
}
__device__ inline float bf_hi(u32 v) {
  return __uint_as_float(v & 0xffff0000u);
}

// mma.sync.m16n8k16.row.col.f32.bf16.bf16.f32: d (16, 8) += a (16, 16) . b (16, 8), spread over the warp's registers.
// PTX, section "Matrix Fragments for mma.m16n8k16": lane 4g + t has rows g and g + 8 of a and d, and column g of b.
struct MmaOperands {
  float* d;
  const u32* a;
  u32 b[2];
};

// Called once a warp, by its last lane: the others wait, so it can read and write their registers, which
// ThreadSanitizer would take for a race.
__attribute__((no_sanitize("thread"))) inline void mma_of_a_warp(const uint64_t* lanes) {
  ++cusim::multiplications.tensor;
  float a[16][16], b[8][16];
  for (int lane = 0; lane < 32; ++lane) {
    const MmaOperands& its = *reinterpret_cast<const MmaOperands*>(lanes[lane]);
    int g = lane >> 2, t = lane & 3;
    for (int i = 0; i < 4; ++i) {
      int row = g + (i & 1) * 8, col = t * 2 + (i >> 1) * 8;
      a[row][col] = bf_lo(its.a[i]);
      a[row][col + 1] = bf_hi(its.a[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[g][t * 2 + i * 8] = bf_lo(its.b[i]);
      b[g][t * 2 + i * 8 + 1] = bf_hi(its.b[i]);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = reinterpret_cast<const MmaOperands*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      const float* row = a[(lane >> 2) + (i >> 1) * 8];
      const float* col = b[(lane & 3) * 2 + (i & 1)];
      double sum = d[i];
      for (int k = 0; k < 16; ++k) sum += double(row[k]) * col[k];
      d[i] = float(sum);
    }
  }
}

__device__ inline void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, CUSIM_CALLER) {
  MmaOperands mine = {d, a, {b0, b1}};
  cusim::exchange(site, 0xffffffffu, reinterpret_cast<uint64_t>(&mine), mma_of_a_warp);
}

typedef uint64_t Address;

__device__ inline Address address_of(const u16* shared) {
  return reinterpret_cast<Address>(shared);
}

// ldmatrix.x4(.trans).b16: lane i gives the row i % 8 of matrix i / 8, 8 numbers of 16 bits at a multiple of 16 bytes.
template <bool TRANS>
__device__ inline void ldmatrix4(u32 (&r)[4], Address address, CUSIM_CALLER) {
  if (address & 15) cusim::fail(site, "ldmatrix: a row's address is not a multiple of 16 bytes");
  const uint64_t* rows = cusim::exchange(site, 0xffffffffu, address);
  int g = cusim::here.lane >> 2, t = cusim::here.lane & 3;
  for (int m = 0; m < 4; ++m) {
    auto at = [&](int i, int j) { return u32(reinterpret_cast<const u16*>(rows[m * 8 + i])[j]); };
    r[m] = TRANS ? at(t * 2, g) | at(t * 2 + 1, g) << 16 : at(g, t * 2) | at(g, t * 2 + 1) << 16;
  }
}
template <bool TRANS>
__device__ inline void ldmatrix4(u32 (&r)[4], const u16* row, CUSIM_CALLER) {
  ldmatrix4<TRANS>(r, address_of(row), site);
}

// cp.async.cg of 16 bytes; where there is no source, zeros.
__device__ inline void cp_async16(void* to, const void* from, bool there, CUSIM_CALLER) {
  cusim::start_copy(site, to, there ? from : nullptr);
}
__device__ inline void cp_async_commit() {
  cusim::commit_copies();
}
template <int N>
__device__ inline void cp_async_wait() {
  cusim::wait_for_copies(N);
}

// ex2.approx.ftz
__device__ inline float exp2_approx(float x) {
  return std::exp2(x);
}
