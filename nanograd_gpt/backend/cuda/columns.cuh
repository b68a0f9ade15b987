// Matrices in tiles of columns: a block has N columns a lane, and each of its warps every so many-th row.
#pragma once
#include "common.cuh"

constexpr int COLUMN_WARPS = 8, COLUMN_BLOCK = COLUMN_WARPS * WARP;

// The first of this lane's columns.
template <int N>
__device__ __forceinline__ int first_column() {
    return (blockIdx.x * WARP + threadIdx.x % WARP) * N;
}

// This warp's first row, and how many rows on its next one is.
__device__ __forceinline__ int first_row() {
    return blockIdx.y * COLUMN_WARPS + threadIdx.x / WARP;
}
__device__ __forceinline__ int row_stride() {
    return gridDim.y * COLUMN_WARPS;
}

// Add up the warps' sums of each column, in the first warp.
template <int N>
__device__ __forceinline__ void add_warps(float (&sum)[N]) {
    __shared__ float of_warps[COLUMN_WARPS][N][WARP];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    __syncthreads();  // the memory may still be read for earlier sums
    #pragma unroll
    for (int i = 0; i < N; ++i) of_warps[warp][i][lane] = sum[i];
    __syncthreads();
    if (warp > 0) return;
    #pragma unroll
    for (int i = 0; i < N; ++i) {
        #pragma unroll
        for (int w = 1; w < COLUMN_WARPS; ++w) sum[i] += of_warps[w][i][lane];
    }
}

// Write to total[column] the sum over all threads of that column, or add it; total may be null.
// partial: for each gridDim.y a row of floats, N for each lane; tickets: one for each gridDim.x.
template <int N>
__device__ __forceinline__ void finish_column_sums(
    float (&sum)[N], float* partial, unsigned* tickets, float* total, bool accumulate, int columns
) {
    if (!total) return;
    int c = first_column<N>(), warp = threadIdx.x / WARP;
    long long pitch = static_cast<long long>(gridDim.x) * WARP * N;
    add_warps(sum);
    if (warp == 0) store_floats(partial + blockIdx.y * pitch + c, sum);
    if (!is_last_block(tickets + blockIdx.x, gridDim.y)) return;

    #pragma unroll
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    #pragma unroll 8
    for (int row = warp; row < gridDim.y; row += COLUMN_WARPS) {
        float values[N];
        load_floats(values, partial + row * pitch + c, true);
        #pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += values[i];
    }
    add_warps(sum);
    if (warp == 0 && c < columns) write_gradient(total + c, sum, accumulate);
}
