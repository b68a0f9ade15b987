// Tiles of bf16 in shared memory, and their products by tensor cores.
//
// A warp has 16 rows of a product in registers as mma.m16n8k16 lays them out: lane 4g + t has rows g and g + 8, columns
// 8n + 2t and 8n + 2t + 1.  Weights that were computed so are, rounded to bf16, the left operand of the next product.
//
// A tile is rows of D bf16, whose chunk c of 16 bytes lies at c ^ (row % 8): so ldmatrix, which reads one chunk of each
// of 8 rows, meets no bank twice.  It begins at a multiple of 256 bytes: where c and d have no bit in common,
// the address of chunk c + d is that of chunk c, ^ 16 d, so that one register leads to all chunks of a row.
#pragma once
#include "common.cuh"
#include "mma.cuh"

constexpr int CHUNK = 8, CHUNK_BYTES = 16;  // bf16, and the bytes they take
template <int D>
constexpr int EIGHT_ROWS = D / CHUNK * CHUNK_BYTES * 8;  // bytes

struct Lane {
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    int matrix = lane / 8, row = lane % 8;  // that it names for ldmatrix
};

template <int D>
__device__ __forceinline__ u16* at(u16* tile, int row, int chunk) {
    return tile + row * D + (chunk ^ (row & 7)) * CHUNK;
}

// Start to copy ROWS x D of a head; what lies beyond its T rows or its width becomes 0.
template <int ROWS, int D, int THREADS>
__device__ __forceinline__ void start_tile(u16* tile, const u16* from, int pitch, int first, int T, int width) {
    constexpr int CHUNKS = D / CHUNK, AT_ONCE = THREADS / CHUNKS;  // rows
    static_assert(THREADS % CHUNKS == 0 && AT_ONCE % 8 == 0 && ROWS % AT_ONCE == 0);
    int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
    u16* to = at<D>(tile, row, chunk);
    #pragma unroll
    for (int i = 0; i < ROWS; i += AT_ONCE) {
        bool there = first + row + i < T && chunk * CHUNK < width;
        long long offset = static_cast<long long>(there ? first + row + i : 0) * pitch;
        cp_async16(to + i * D, from + offset + (there ? chunk * CHUNK : 0), there);
    }
}

// 16 rows of a tile as the left operand: held in registers, or read from the tile, which then has to stay, each time.
template <int D, bool HELD>
struct Rows {
    u32 held[HELD ? D / 16 : 1][4];
    Address from;

    __device__ __forceinline__ void load(u16* tile, int first, const Lane& l) {
        from = address_of(at<D>(tile, first + l.matrix % 2 * 8 + l.row, l.matrix / 2));
        if constexpr (HELD) {
            #pragma unroll
            for (int k = 0; k < D / 16; ++k) read(held[k], k);
        }
    }
    __device__ __forceinline__ void read(u32 (&columns)[4], int k) const {
        ldmatrix4<false>(columns, from ^ k * 2 * CHUNK_BYTES);
    }
    // Columns 16k to 16k + 15.
    __device__ __forceinline__ void get(u32 (&columns)[4], int k) const {
        if constexpr (HELD) {
            #pragma unroll
            for (int i = 0; i < 4; ++i) columns[i] = held[k][i];
        } else {
            read(columns, k);
        }
    }
};

// sums (M * 16, N * 8) += rows (M * 16, D) . tile (N * 8, D)^T
template <int D, int M, int N, bool HELD>
__device__ __forceinline__ void add_products(
    float (&sums)[M][N][4], const Rows<D, HELD> (&rows)[M], u16* tile, const Lane& l
) {
    Address from = address_of(at<D>(tile, l.matrix / 2 * 8 + l.row, l.matrix % 2));
    #pragma unroll
    for (int k = 0; k < D / 16; ++k) {
        u32 left[M][4];
        #pragma unroll
        for (int m = 0; m < M; ++m) rows[m].get(left[m], k);
        #pragma unroll
        for (int n = 0; n < N; n += 2) {
            u32 columns[4];
            ldmatrix4<false>(columns, (from ^ k * 2 * CHUNK_BYTES) + n * EIGHT_ROWS<D>);
            #pragma unroll
            for (int m = 0; m < M; ++m) {
                mma_bf16(sums[m][n], left[m], columns[0], columns[1]);
                mma_bf16(sums[m][n + 1], left[m], columns[2], columns[3]);
            }
        }
    }
}

// Weights (16, N * 8) as the left operand of a product.
template <int N>
__device__ __forceinline__ void round_weights(u32 (&rounded)[N / 2][4], const float (&weights)[N][4]) {
    #pragma unroll
    for (int k = 0; k < N / 2; ++k) {
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float* pair = &weights[2 * k + i / 2][i % 2 * 2];
            rounded[k][i] = pack_bf16(pair[0], pair[1]);
        }
    }
}

// sums (M * 16, D) += weights (M * 16, K * 16) . tile (K * 16, D)
template <int D, int M, int K>
__device__ __forceinline__ void add_weighted(
    float (&sums)[M][D / 8][4], const u32 (&weights)[M][K][4], u16* tile, const Lane& l
) {
    Address from = address_of(at<D>(tile, l.matrix % 2 * 8 + l.row, l.matrix / 2));
    #pragma unroll
    for (int k = 0; k < K; ++k) {
        #pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            u32 columns[4];
            ldmatrix4<true>(columns, (from ^ n * CHUNK_BYTES) + k * 2 * EIGHT_ROWS<D>);
            #pragma unroll
            for (int m = 0; m < M; ++m) {
                mma_bf16(sums[m][n], weights[m][k], columns[0], columns[1]);
                mma_bf16(sums[m][n + 1], weights[m][k], columns[2], columns[3]);
            }
        }
    }
}

// Write 16 rows, times a factor each, through the warp's own 16 rows of shared memory, so that 16 bytes go at once.
template <int D>
__device__ __forceinline__ void store_rows(
    bf16* to, int pitch, const float (&rows)[D / 8][4], float factor, float factor8, u16* tile, int row,
    int first, int T, int width, const Lane& l
) {
    __syncwarp();
    #pragma unroll
    for (int n = 0; n < D / 8; ++n) {
        u32* low = reinterpret_cast<u32*>(at<D>(tile, row + l.g, n)) + l.t;
        u32* high = reinterpret_cast<u32*>(at<D>(tile, row + l.g + 8, n)) + l.t;
        *low = pack_bf16(rows[n][0] * factor, rows[n][1] * factor);
        *high = pack_bf16(rows[n][2] * factor8, rows[n][3] * factor8);
    }
    __syncwarp();
    #pragma unroll
    for (int i = l.lane; i < 16 * D / CHUNK; i += WARP) {
        int r = row + i / (D / CHUNK), chunk = i % (D / CHUNK);
        if (first + r >= T || chunk * CHUNK >= width) continue;
        u16* chunk_of_row = reinterpret_cast<u16*>(to) + static_cast<long long>(first + r) * pitch + chunk * CHUNK;
        store_pack(chunk_of_row, load_pack(at<D>(tile, r, chunk)));
    }
}
