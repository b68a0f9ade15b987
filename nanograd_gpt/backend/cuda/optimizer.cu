// AdamW (Loshchilov and Hutter 2019), and the global norm by which gradients are clipped.
//
//     g = scale * grad        m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
//     p = p (1 - lr * decay) - rate * m / (sqrt(v) + eps)
//
// Both are bound by memory: AdamW reads 16 bytes a parameter and writes 12, once.  A thread takes 16 bytes of each array
// at a time.  What changes from update to update lies in device memory, so that a CUDA graph can be replayed.
#include "common.cuh"

// The order of AdamWNumbers in backend/contract.py.
enum { DECAY, RATE, BETA1, REST1, BETA2, REST2, EPS, PADDING, N_NUMBERS };

__device__ __forceinline__ void update(float& p, float g, float& m, float& v, const float* n) {
    p *= n[DECAY];
    float difference = g - m;
    // From the nearer end, as PyTorch does: else a large mean rounds a small gradient away.
    m = n[BETA1] > 0.5f ? m + n[REST1] * difference : g - n[BETA1] * difference;
    v = n[BETA2] * v + n[REST2] * g * g;
    p -= n[RATE] * m / (sqrtf(v) + n[EPS]);
}

__global__ void __launch_bounds__(256) adamw(
    float* __restrict__ param, const float* __restrict__ grad, float* __restrict__ exp_avg,
    float* __restrict__ exp_avg_sq, const double* __restrict__ numbers, const float* __restrict__ scale, long long size
) {
    float n[N_NUMBERS];
    #pragma unroll
    for (int i = 0; i < N_NUMBERS; ++i) n[i] = static_cast<float>(numbers[i]);
    float factor = scale ? *scale : 1.0f;
    constexpr int N = Pack<float>::N;
    long long stride = static_cast<long long>(gridDim.x) * blockDim.x * N;
    for (long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < size; i += stride) {
        if (i + N <= size) {
            Pack<float> p = load_pack(param + i), g = load_pack(grad + i);
            Pack<float> m = load_pack(exp_avg + i), v = load_pack(exp_avg_sq + i);
            #pragma unroll
            for (int k = 0; k < N; ++k) update(p.x[k], g.x[k] * factor, m.x[k], v.x[k], n);
            store_pack(param + i, p);
            store_pack(exp_avg + i, m);
            store_pack(exp_avg_sq + i, v);
        } else {
            for (long long k = i; k < size; ++k) update(param[k], grad[k] * factor, exp_avg[k], exp_avg_sq[k], n);
        }
    }
}

// Each block's sum of squares, into sums[first + its number].
__global__ void __launch_bounds__(256) squares(
    const float* __restrict__ x, float* __restrict__ sums, int first, long long size
) {
    __shared__ float per_warp[WARP];
    constexpr int N = Pack<float>::N;
    long long stride = static_cast<long long>(gridDim.x) * blockDim.x * N;
    float sum = 0.0f;
    for (long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < size; i += stride) {
        if (i + N <= size) {
            Pack<float> pack = load_pack(x + i);
            #pragma unroll
            for (int k = 0; k < N; ++k) sum += pack.x[k] * pack.x[k];
        } else {
            for (long long k = i; k < size; ++k) sum += x[k] * x[k];
        }
    }
    sum = block_sum(sum, per_warp);
    if (threadIdx.x == 0) sums[first + blockIdx.x] = sum;
}

// The global norm from the sums of squares, and the factor that clips to it; one block.
__global__ void __launch_bounds__(256) clip(
    const float* __restrict__ sums, int n, float max_norm, float norm_eps, float* __restrict__ norm,
    float* __restrict__ scale
) {
    __shared__ float per_warp[WARP];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum, per_warp);
    if (threadIdx.x == 0) {
        float root = sqrtf(sum), factor = max_norm / (root + norm_eps);
        *norm = root;
        *scale = factor < 1.0f || factor != factor ? factor : 1.0f;  // nan stays nan
    }
}
