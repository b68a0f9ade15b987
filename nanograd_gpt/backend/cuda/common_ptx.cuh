// Conversions to bf16 by PTX, rounded to the nearest, ties to even.  tests/cusim/include has the C++ twin.
#pragma once

typedef unsigned short u16;
typedef unsigned u32;

__device__ __forceinline__ u16 bf16_bits(float x) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// `low` comes first in memory.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
