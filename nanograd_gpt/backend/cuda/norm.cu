// LayerNorm over the last axis (Ba et al. 2016), with the biased variance.
//
//     n = (x - mean) * rstd        y = n * scale + shift
//     g = dy * scale               dx = rstd * (g - mean(g) - n * mean(g * n)) + residual
//     dscale = sum of dy * n over the rows        dshift = sum of dy over the rows
//
// y and dy are float or bf16, T; x, on the residual stream, and its gradient are float.
//
// Bound by memory: forward reads x and writes y; backward reads dy, x and the residual's gradient and writes dx.  A row
// is that of a warp, or of a block where it is long, and stays in registers: in each thread LOADS times N values, N of
// them side by side.  N is 4, or 1 if C is not a multiple of that.
#include "common.cuh"

constexpr int BLOCK = 256;
constexpr int GROUP = 16;  // blocks whose sums over rows one of them adds: so all are added in two steps

// The sum over a row's threads, in each of them.
template <int ROW_THREADS>
__device__ __forceinline__ float row_sum(float value, float* per_warp) {
    if constexpr (ROW_THREADS == WARP) {
        return warp_sum(value);
    } else {
        return block_sum(value, per_warp);
    }
}

template <class T, int N, int LOADS, int ROW_THREADS>
__global__ void __launch_bounds__(BLOCK) layer_norm(
    const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ shift, T* __restrict__ y,
    float* __restrict__ mean, float* __restrict__ rstd, float eps, int rows, int C
) {
    __shared__ float per_warp[WARP];
    constexpr int ROWS = BLOCK / ROW_THREADS, STRIDE = ROW_THREADS * N;
    int row = blockIdx.x * ROWS + threadIdx.x / ROW_THREADS, thread = threadIdx.x % ROW_THREADS;
    if (row >= rows) return;
    long long start = static_cast<long long>(row) * C;

    float n[LOADS][N], sum = 0.0f;
    #pragma unroll
    for (int k = 0; k < LOADS; ++k) {
        int c = k * STRIDE + thread * N;
        load_floats(n[k], x + start + c, c < C);
        #pragma unroll
        for (int i = 0; i < N; ++i) sum += n[k][i];
    }
    float m = row_sum<ROW_THREADS>(sum, per_warp) / C;

    float squares = 0.0f;
    #pragma unroll
    for (int k = 0; k < LOADS; ++k) {
        int c = k * STRIDE + thread * N;
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            n[k][i] -= m;
            if (c < C) squares += n[k][i] * n[k][i];
        }
    }
    float r = 1.0f / sqrtf(row_sum<ROW_THREADS>(squares, per_warp) / C + eps);
    if (thread == 0) {
        mean[row] = m;
        rstd[row] = r;
    }

    #pragma unroll
    for (int k = 0; k < LOADS; ++k) {
        int c = k * STRIDE + thread * N;
        if (c >= C) break;
        float a[N], b[N];
        load_floats(a, scale + c, true);
        load_floats(b, shift + c, true);
        #pragma unroll
        for (int i = 0; i < N; ++i) a[i] = n[k][i] * r * a[i] + b[i];
        store_floats(y + start + c, a);
    }
}

// The sums of N columns over `count` rows, `pitch` floats apart, in the rows' order.
template <int N>
__device__ __forceinline__ void sum_rows(float (&sum)[N], const float* from, int pitch, int count) {
    #pragma unroll
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    #pragma unroll 8
    for (int row = 0; row < count; ++row) {
        float values[N];
        load_floats(values, from + row * pitch, true);
        #pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += values[i];
    }
}

// partial: each block's sums for dscale and for dshift, WIDTH floats each; null where neither is wanted.
// tickets: one for all groups of blocks, then one for each group.
template <class T, int N, int LOADS, int ROW_THREADS>
__global__ void __launch_bounds__(BLOCK, N * LOADS <= 24 ? 2 : 1) layer_norm_backward(
    const T* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ scale,
    const float* __restrict__ mean, const float* __restrict__ rstd, const float* __restrict__ residual,
    float* __restrict__ dx, float* __restrict__ dscale, bool add_dscale, float* __restrict__ dshift, bool add_dshift,
    float* __restrict__ partial, unsigned* __restrict__ tickets, int rows, int C
) {
    __shared__ float per_warp[WARP];
    constexpr int ROWS = BLOCK / ROW_THREADS, STRIDE = ROW_THREADS * N, WIDTH = LOADS * STRIDE;
    int thread = threadIdx.x % ROW_THREADS;

    float sums[2][LOADS][N] = {};  // of dscale and of dshift, over this thread's rows
    for (int row = blockIdx.x * ROWS + threadIdx.x / ROW_THREADS; row < rows; row += gridDim.x * ROWS) {
        long long start = static_cast<long long>(row) * C;
        float m = mean[row], r = rstd[row];
        float n[LOADS][N], g[LOADS][N], sum_g = 0.0f, sum_gn = 0.0f;
        #pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            int c = k * STRIDE + thread * N;
            load_floats(n[k], x + start + c, c < C);
            load_floats(g[k], dy + start + c, c < C);  // 0 beyond the row: so are all its products
        }
        #pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            int c = k * STRIDE + thread * N;
            float a[N];
            load_floats(a, scale + c, c < C);
            #pragma unroll
            for (int i = 0; i < N; ++i) {
                n[k][i] = (n[k][i] - m) * r;
                sums[0][k][i] += g[k][i] * n[k][i];
                sums[1][k][i] += g[k][i];
                g[k][i] *= a[i];
                sum_g += g[k][i];
                sum_gn += g[k][i] * n[k][i];
            }
        }
        float mean_g = row_sum<ROW_THREADS>(sum_g, per_warp) / C;
        float mean_gn = row_sum<ROW_THREADS>(sum_gn, per_warp) / C;
        #pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            int c = k * STRIDE + thread * N;
            if (c >= C) break;
            float beside[N];
            load_floats(beside, residual + start + c, residual != nullptr);
            #pragma unroll
            for (int i = 0; i < N; ++i) beside[i] += (g[k][i] - mean_g - n[k][i] * mean_gn) * r;
            store_floats(dx + start + c, beside);
        }
    }
    if (!partial) return;

    // The sums of the block's rows, then of its group's blocks, then of all groups.
    __shared__ __align__(16) float of_rows[ROWS][WIDTH];
    float* of_block = partial + blockIdx.x * 2 * WIDTH;
    float sum[N];
    #pragma unroll
    for (int which = 0; which < 2; ++which) {
        __syncthreads();
        #pragma unroll
        for (int k = 0; k < LOADS; ++k) {
            store_floats(of_rows[threadIdx.x / ROW_THREADS] + k * STRIDE + thread * N, sums[which][k]);
        }
        __syncthreads();
        for (int c = threadIdx.x * N; c < WIDTH; c += BLOCK * N) {
            sum_rows(sum, of_rows[0] + c, WIDTH, ROWS);
            store_floats(of_block + which * WIDTH + c, sum);
        }
    }
    int group = blockIdx.x / GROUP, groups = (gridDim.x + GROUP - 1) / GROUP;
    int members = min(GROUP, static_cast<int>(gridDim.x) - group * GROUP);
    if (!is_last_block(tickets + 1 + group, members)) return;
    float* of_group = partial + group * GROUP * 2 * WIDTH;  // in place of its first block's
    for (int c = threadIdx.x * N; c < 2 * WIDTH; c += BLOCK * N) {
        sum_rows(sum, of_group + c, 2 * WIDTH, members);
        store_floats(of_group + c, sum);
    }
    if (!is_last_block(tickets, groups)) return;
    for (int c = threadIdx.x * N; c < C; c += BLOCK * N) {
        if (dscale) {
            sum_rows(sum, partial + c, GROUP * 2 * WIDTH, groups);
            write_gradient(dscale + c, sum, add_dscale);
        }
        if (dshift) {
            sum_rows(sum, partial + WIDTH + c, GROUP * 2 * WIDTH, groups);
            write_gradient(dshift + c, sum, add_dshift);
        }
    }
}
