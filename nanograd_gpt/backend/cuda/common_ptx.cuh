// Conversion to bf16 by PTX, to the nearest, ties to even.  tests/cusim/include has the C++ twin.
#pragma once

typedef unsigned short u16;
typedef unsigned u32;

// `low` comes first in memory.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
