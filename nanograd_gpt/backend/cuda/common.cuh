// Words that the kernels share.  A warp is 32 threads; all sums run in a fixed order, so that two runs give equal bits.
#pragma once

#include "common_ptx.cuh"

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// A bfloat16: the upper half of a float.
struct bf16 {
    u16 bits;

    bf16() = default;
    __device__ __forceinline__ explicit bf16(float x) : bits(bf16_bits(x)) {}
    __device__ __forceinline__ explicit operator float() const {
        return __uint_as_float(static_cast<u32>(bits) << 16);
    }
};

// What a thread loads or stores at once: 16 bytes are the most.
template <class T, int N_ = 16 / sizeof(T)>
struct alignas(N_ * sizeof(T)) Pack {
    static constexpr int N = N_;
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

// How many of N values are loaded or stored at once: 16 bytes of them, 8, or one value.
template <class T, int N>
__device__ constexpr int at_once() {
    constexpr int most = 16 / sizeof(T);
    return N % most == 0 ? most : N % (most / 2) == 0 ? most / 2 : 1;
}

// N values as floats, or zeros where they are not `inside`.
template <int N, class T>
__device__ __forceinline__ void load_floats(float (&values)[N], const T* from, bool inside) {
    constexpr int WIDTH = at_once<T, N>();
    #pragma unroll
    for (int i = 0; i < N; ++i) values[i] = 0.0f;
    if (!inside) return;
    #pragma unroll
    for (int first = 0; first < N; first += WIDTH) {
        Pack<T, WIDTH> pack = *reinterpret_cast<const Pack<T, WIDTH>*>(from + first);
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) values[first + i] = static_cast<float>(pack.x[i]);
    }
}

template <int N, class T>
__device__ __forceinline__ void store_floats(T* to, const float (&values)[N]) {
    constexpr int WIDTH = at_once<T, N>();
    #pragma unroll
    for (int first = 0; first < N; first += WIDTH) {
        Pack<T, WIDTH> pack;
        #pragma unroll
        for (int i = 0; i < WIDTH; ++i) pack.x[i] = static_cast<T>(values[first + i]);
        *reinterpret_cast<Pack<T, WIDTH>*>(to + first) = pack;
    }
}

// The same in bfloat16, of which two are rounded at once.
template <int N>
__device__ __forceinline__ void store_floats(bf16* to, const float (&values)[N]) {
    constexpr int WIDTH = at_once<bf16, N>();
    if constexpr (WIDTH == 1) {
        #pragma unroll
        for (int i = 0; i < N; ++i) to[i] = static_cast<bf16>(values[i]);
    } else {
        #pragma unroll
        for (int first = 0; first < N; first += WIDTH) {
            Pack<u32, WIDTH / 2> pairs;
            #pragma unroll
            for (int i = 0; i < WIDTH; i += 2) pairs.x[i / 2] = pack_bf16(values[first + i], values[first + i + 1]);
            *reinterpret_cast<Pack<u32, WIDTH / 2>*>(to + first) = pairs;
        }
    }
}

// Write N values of a gradient, or add them to what is there.
template <int N>
__device__ __forceinline__ void write_gradient(float* to, float (&values)[N], bool accumulate) {
    float before[N];
    load_floats(before, to, accumulate);
    #pragma unroll
    for (int i = 0; i < N; ++i) values[i] += before[i];
    store_floats(to, values);
}

// Whether this block is the last of `blocks` that come here: it then sees what all of them wrote before.
// *ticket is 0, and is so again afterwards.
__device__ __forceinline__ bool is_last_block(unsigned* ticket, unsigned blocks) {
    __shared__ bool last;
    __threadfence();  // what this thread wrote is seen before its block's ticket
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(ticket, 1u) == blocks - 1;
        if (last) *ticket = 0;
    }
    __syncthreads();
    if (last) __threadfence();  // and nothing that it reads from here on is older than the others' tickets
    return last;
}
