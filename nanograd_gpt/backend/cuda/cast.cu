// Between float32 and bfloat16, 8 elements a thread: bound by memory, 6 bytes an element.
#include "common.cuh"

constexpr int N = 8;

__global__ void __launch_bounds__(256) to_bf16(const float* __restrict__ x, bf16* __restrict__ y, long long size) {
    long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i + N <= size) {
        Pack<float> a = load_pack(x + i), b = load_pack(x + i + Pack<float>::N);
        Pack<u32> bits;
        bits.x[0] = pack_bf16(a.x[0], a.x[1]);
        bits.x[1] = pack_bf16(a.x[2], a.x[3]);
        bits.x[2] = pack_bf16(b.x[0], b.x[1]);
        bits.x[3] = pack_bf16(b.x[2], b.x[3]);
        store_pack(reinterpret_cast<u32*>(y + i), bits);
    } else {
        for (long long k = i; k < size; ++k) y[k].bits = bf16_bits(x[k]);
    }
}

__global__ void __launch_bounds__(256) to_float(const bf16* __restrict__ x, float* __restrict__ y, long long size) {
    long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i + N <= size) {
        Pack<u32> bits = load_pack(reinterpret_cast<const u32*>(x + i));
        Pack<float> halves[2];
        #pragma unroll
        for (int k = 0; k < Pack<u32>::N; ++k) {
            halves[k / 2].x[k % 2 * 2] = __uint_as_float(bits.x[k] << 16);
            halves[k / 2].x[k % 2 * 2 + 1] = __uint_as_float(bits.x[k] & 0xffff0000u);
        }
        store_pack(y + i, halves[0]);
        store_pack(y + i + Pack<float>::N, halves[1]);
    } else {
        for (long long k = i; k < size; ++k) y[k] = __uint_as_float(static_cast<u32>(x[k].bits) << 16);
    }
}
