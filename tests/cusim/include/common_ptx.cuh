// The C++ twin of the product's conversions by PTX: cvt.rn.bf16.f32 and cvt.rn.bf16x2.f32.
#pragma once

typedef unsigned short u16;
typedef unsigned u32;

// To the nearest, ties to even; a nan becomes PTX's only one.
__device__ inline u16 bf16_bits(float x) {
  u32 u = __float_as_uint(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return u16((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

// `low` comes first in memory.
__device__ inline u32 pack_bf16(float low, float high) {
  return bf16_bits(low) | u32(bf16_bits(high)) << 16;
}
