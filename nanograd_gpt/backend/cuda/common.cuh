// Words that the kernels share.  A warp is 32 threads; all sums run in a fixed order, so that two runs give equal bits.
#pragma once

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// 16 bytes, the most that a thread loads or stores at once.
template <class T>
struct alignas(16) Pack {
    static constexpr int N = 16 / sizeof(T);
    T x[N];
};

template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<T>*>(from);
}

template <class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T>& pack) {
    *reinterpret_cast<Pack<T>*>(to) = pack;
}

// The sum over a warp, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
    #pragma unroll
    for (int distance = WARP / 2; distance; distance >>= 1) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

// The largest of a warp, in every lane.
__device__ __forceinline__ float warp_max(float value) {
    #pragma unroll
    for (int distance = WARP / 2; distance; distance >>= 1) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// The sum over a block of whole warps, in every thread; `per_warp` is shared memory of 32 floats.
__device__ __forceinline__ float block_sum(float value, float* per_warp) {
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    value = warp_sum(value);
    __syncthreads();  // the memory may still be read for an earlier sum
    if (lane == 0) per_warp[warp] = value;
    __syncthreads();
    return warp_sum(lane < warps ? per_warp[lane] : 0.0f);
}

// A bfloat16 in memory: the upper half of a float.
struct bf16 {
    unsigned short bits;
};
