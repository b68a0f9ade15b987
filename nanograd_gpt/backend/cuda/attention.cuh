// Words of the attention kernels, whose blockIdx is the head, b * H + h, and the tile.
#pragma once
#include "common.cuh"

constexpr float LOG2E = 1.4426950408889634f;

__device__ __forceinline__ float infinity() {
    return __int_as_float(0x7f800000);
}

// The first element of the block's head, its queries', in an array (B, T, parts * C), C = H * width.
__device__ __forceinline__ long long head_begin(int T, int H, int width, int parts) {
    return static_cast<long long>(blockIdx.x / H) * T * parts * H * width + blockIdx.x % H * width;
}

// Over neighbouring lanes that share a row.
template <int LANES>
__device__ __forceinline__ float sum_of_row(float value) {
    #pragma unroll
    for (int distance = LANES / 2; distance; distance >>= 1) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

template <int LANES>
__device__ __forceinline__ float max_of_row(float value) {
    #pragma unroll
    for (int distance = LANES / 2; distance; distance >>= 1) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}
