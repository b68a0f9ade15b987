// Causal attention of H heads, in four steps that compute the same numbers:
//
//     S = Q K^T / sqrt(D)     P = softmax(S), where a query sees the keys up to its own     O = P V
//
// Q, K, V and O are (H, T, D).  Arithmetic is quick and memory is far away: an H100 does 20 operations in float32 while
// one byte comes from memory.  So each step asks for fewer bytes of global memory for every pair of a query and a key,
// of which a head has T (T + 1) / 2; with D = 64 and a large T:
//
//     1. naive             16 D + 20       = 1044    every thread gets all its numbers from global memory
//     2. tiled             12 D / 32 + 28  =   52    a block shares tiles of 32 rows, in memory on the chip
//     3. online softmax    8 D / 32        =   16    S never leaves the chip: there is no T x T array
//     4. tensor cores      4 D / 64        =    4    bfloat16, tiles of 64 rows, 4,096 operations in an instruction
//
// These are the bytes that threads ask for.  What the lanes of a warp ask for together comes once, and some of it from
// a cache, which helps the first steps most; but only tiles can be relied on.
//
// A grid's last index is the head: blockIdx.z.  All sums run in a fixed order, in float32.
#include "common.cuh"
#include "mma.cuh"

constexpr int D = 64;
constexpr float SCALE = 0.125f;  // 1 / sqrt(D)

__device__ __forceinline__ float infinity() {
    return __int_as_float(0x7f800000);
}

// --- 1. naive: three kernels, one for each part of the formula, with S and P in one array (H, T, T)

// One thread a score.  Its query and its key are 8 D bytes, and no thread knows that others fetch them too.
__global__ void __launch_bounds__(64) scores_naive(
    const float* __restrict__ q, const float* __restrict__ k, float* __restrict__ s, int T
) {
    int query = blockIdx.y, key = blockIdx.x * blockDim.x + threadIdx.x;
    if (key > query) return;  // later keys are not seen
    long long row = static_cast<long long>(blockIdx.z) * T + query, key_row = row - query + key;
    float sum = 0.0f;
    for (int d = 0; d < D; ++d) sum = fmaf(q[row * D + d], k[key_row * D + d], sum);
    s[row * T + key] = sum * SCALE;
}

// One warp a row: its largest score, then the sum of exp(score - largest), then the quotient.  Three times it reads the
// row from memory; once it writes it.
__global__ void __launch_bounds__(WARP) softmax(float* s, int T) {
    int query = blockIdx.x;
    float* row = s + (static_cast<long long>(blockIdx.z) * T + query) * T;
    float largest = -infinity(), sum = 0.0f;
    for (int key = threadIdx.x; key <= query; key += WARP) largest = fmaxf(largest, row[key]);
    largest = warp_max(largest);
    for (int key = threadIdx.x; key <= query; key += WARP) sum += expf(row[key] - largest);
    sum = warp_sum(sum);
    for (int key = threadIdx.x; key <= query; key += WARP) row[key] = expf(row[key] - largest) / sum;
}

// One thread an element of O.
__global__ void __launch_bounds__(D) weighted_sum_naive(
    const float* __restrict__ p, const float* __restrict__ v, float* __restrict__ o, int T
) {
    int query = blockIdx.x, d = threadIdx.x;
    long long first = static_cast<long long>(blockIdx.z) * T, row = first + query;
    float sum = 0.0f;
    for (int key = 0; key <= query; ++key) sum = fmaf(p[row * T + key], v[(first + key) * D + d], sum);
    o[row * D + d] = sum;
}

// --- 2. tiled: the same three, but a block of 32 x 32 threads fetches tiles of 32 x 32 once, for all its threads
//
// A number in shared memory serves 32 threads: of the 16 D bytes, a 32nd is left.  Numbers beyond the last row are 0.

constexpr int TILE = 32;

__global__ void __launch_bounds__(TILE * TILE) scores_tiled(
    const float* __restrict__ q, const float* __restrict__ k, float* __restrict__ s, int T
) {
    __shared__ float Q[TILE][TILE];
    __shared__ float K[TILE][TILE + 1];  // so that the 32 lanes, which read a column, meet no bank twice
    if (blockIdx.x > blockIdx.y) return;  // all its keys are later than its queries
    int x = threadIdx.x, y = threadIdx.y;
    int query = blockIdx.y * TILE + y, key = blockIdx.x * TILE + x, key_to_load = blockIdx.x * TILE + y;
    long long first = static_cast<long long>(blockIdx.z) * T;
    float sum = 0.0f;
    for (int part = 0; part < D; part += TILE) {
        Q[y][x] = query < T ? q[(first + query) * D + part + x] : 0.0f;
        K[y][x] = key_to_load < T ? k[(first + key_to_load) * D + part + x] : 0.0f;
        __syncthreads();  // the tiles are whole
        for (int d = 0; d < TILE; ++d) sum = fmaf(Q[y][d], K[x][d], sum);
        __syncthreads();  // and may be overwritten
    }
    if (query < T && key <= query) s[(first + query) * T + key] = sum * SCALE;
}

// blockIdx.x is the part of D.
__global__ void __launch_bounds__(TILE * TILE) weighted_sum_tiled(
    const float* __restrict__ p, const float* __restrict__ v, float* __restrict__ o, int T
) {
    __shared__ float P[TILE][TILE];
    __shared__ float V[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y, query = blockIdx.y * TILE + y, d = blockIdx.x * TILE + x;
    long long first = static_cast<long long>(blockIdx.z) * T, row = first + query;
    float sum = 0.0f;
    for (int tile = 0; tile <= blockIdx.y * TILE; tile += TILE) {
        P[y][x] = query < T && tile + x <= query ? p[row * T + tile + x] : 0.0f;
        V[y][x] = tile + y < T ? v[(first + tile + y) * D + d] : 0.0f;
        __syncthreads();
        for (int key = 0; key < TILE; ++key) sum = fmaf(P[y][key], V[key][x], sum);
        __syncthreads();
    }
    if (query < T) o[row * D + d] = sum;
}

// --- 3. online softmax (Milakov and Gimelshein 2018): one kernel, in which a score is used where it is computed
//
// A row's largest score is known only at its end.  But what was summed with a smaller one, m, is right again after a
// multiplication by exp(m - larger).  So a block keeps 32 queries and lets tiles of 32 keys and values pass by, as in
// FlashAttention (Dao et al. 2022).

constexpr int ROWS = 4, WARPS = TILE / ROWS;  // a warp has 4 of the queries; its lanes are keys, and then elements of O

__device__ __forceinline__ void load_rows(float (*to)[D + 1], const float* __restrict__ from, int rows) {
    for (int i = threadIdx.x; i < TILE * D; i += WARPS * WARP) to[i / D][i % D] = i / D < rows ? from[i] : 0.0f;
}

__global__ void __launch_bounds__(WARPS * WARP) attention_online(
    const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, float* __restrict__ o, int T
) {
    __shared__ float Q[TILE][D + 1];
    __shared__ float K[TILE][D + 1];
    __shared__ float V[TILE][D + 1];
    int lane = threadIdx.x % WARP, mine = threadIdx.x / WARP * ROWS, begin = blockIdx.x * TILE;
    long long first = static_cast<long long>(blockIdx.z) * T;
    load_rows(Q, q + (first + begin) * D, T - begin);
    float largest[ROWS], total[ROWS] = {}, sums[ROWS][D / WARP] = {};
    for (int r = 0; r < ROWS; ++r) largest[r] = -infinity();
    for (int tile = 0; tile <= begin; tile += TILE) {
        __syncthreads();
        load_rows(K, k + (first + tile) * D, T - tile);
        load_rows(V, v + (first + tile) * D, T - tile);
        __syncthreads();
        float weights[ROWS] = {};  // of this lane's key: first the scores
        #pragma unroll 4
        for (int d = 0; d < D; ++d) {
            for (int r = 0; r < ROWS; ++r) weights[r] = fmaf(Q[mine + r][d], K[lane][d], weights[r]);
        }
        #pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            float score = tile + lane <= begin + mine + r ? weights[r] * SCALE : -infinity();
            float larger = fmaxf(largest[r], warp_max(score)), shrink = expf(largest[r] - larger);
            largest[r] = larger;
            weights[r] = expf(score - larger);
            total[r] = total[r] * shrink + warp_sum(weights[r]);
            for (int i = 0; i < D / WARP; ++i) sums[r][i] *= shrink;
        }
        #pragma unroll 4
        for (int key = 0; key < TILE; ++key) {
            for (int r = 0; r < ROWS; ++r) {
                float weight = __shfl_sync(ALL_LANES, weights[r], key);
                for (int i = 0; i < D / WARP; ++i) sums[r][i] = fmaf(weight, V[key][i * WARP + lane], sums[r][i]);
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        int query = begin + mine + r;
        if (query >= T) continue;
        for (int i = 0; i < D / WARP; ++i) o[(first + query) * D + i * WARP + lane] = sums[r][i] / total[r];
    }
}

// --- 4. tensor cores: step 3, but one instruction of a warp multiplies 16 x 16 by 16 x 8 numbers in bfloat16
//
// Its operands lie in the registers of all 32 lanes (mma.cuh): lane 4 g + t has rows g and g + 8 of a result, and of
// each the columns 2 t and 2 t + 1 of every 8.  The weights come out of the first product as the second one takes them.
// bfloat16 halves the bytes, and tiles of 64 rows halve them again.

constexpr int QUERIES = 64, KEYS = 64, MMA_WARPS = QUERIES / 16;  // rows of a block, and of a tile that passes by
constexpr int PITCH = D + 8;  // numbers from row to row: the 8 rows that ldmatrix reads at once are in different banks

template <int ROWS_OF_TILE>
__device__ __forceinline__ void load_rows_of_bf16(u16* to, const u16* __restrict__ from, int rows) {
    constexpr int N = Pack<u16>::N;
    for (int i = threadIdx.x * N; i < ROWS_OF_TILE * D; i += MMA_WARPS * WARP * N) {
        Pack<u16> pack = {};
        if (i / D < rows) pack = load_pack(from + i);
        store_pack(to + i / D * PITCH + i % D, pack);
    }
}

// Over the 4 lanes that share a row.
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

__global__ void __launch_bounds__(MMA_WARPS * WARP, 2) attention_tensor_cores(
    const u16* __restrict__ q, const u16* __restrict__ k, const u16* __restrict__ v, float* __restrict__ o, int T
) {
    __shared__ __align__(16) u16 Q[QUERIES * PITCH];
    __shared__ __align__(16) u16 K[KEYS * PITCH];
    __shared__ __align__(16) u16 V[KEYS * PITCH];
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, mine = threadIdx.x / WARP * 16;
    int begin = blockIdx.x * QUERIES;
    long long first = static_cast<long long>(blockIdx.z) * T;
    load_rows_of_bf16<QUERIES>(Q, q + (first + begin) * D, T - begin);
    __syncthreads();
    u32 queries[D / 16][4];
    #pragma unroll
    for (int i = 0; i < D / 16; ++i) {
        ldmatrix4<false>(queries[i], Q + (mine + lane % 16) * PITCH + i * 16 + lane / 16 * 8);
    }
    float largest[2] = {-infinity(), -infinity()}, total[2] = {}, sums[D / 8][4] = {};
    for (int tile = 0; tile < min(T, begin + QUERIES); tile += KEYS) {
        __syncthreads();
        load_rows_of_bf16<KEYS>(K, k + (first + tile) * D, T - tile);
        load_rows_of_bf16<KEYS>(V, v + (first + tile) * D, T - tile);
        __syncthreads();
        float scores[KEYS / 8][4] = {};
        #pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
            #pragma unroll
            for (int i = 0; i < D / 16; i += 2) {
                u32 keys[4];
                ldmatrix4<false>(keys, K + (n * 8 + lane % 8) * PITCH + i * 16 + lane / 8 * 8);
                mma_bf16(scores[n], queries[i], keys[0], keys[1]);
                mma_bf16(scores[n], queries[i + 1], keys[2], keys[3]);
            }
        }
        #pragma unroll
        for (int r = 0; r < 2; ++r) {
            int query = begin + mine + g + r * 8;
            float larger = largest[r];
            #pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
                #pragma unroll
                for (int c = 0; c < 2; ++c) {
                    float& score = scores[n][r * 2 + c];
                    score = tile + n * 8 + t * 2 + c <= query ? score * SCALE : -infinity();
                    larger = fmaxf(larger, score);
                }
            }
            larger = quad_max(larger);
            float shrink = expf(largest[r] - larger);
            largest[r] = larger;
            total[r] *= shrink;  // of this lane's columns
            #pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
                #pragma unroll
                for (int c = 0; c < 2; ++c) {
                    scores[n][r * 2 + c] = expf(scores[n][r * 2 + c] - larger);
                    total[r] += scores[n][r * 2 + c];
                }
            }
            #pragma unroll
            for (int n = 0; n < D / 8; ++n) {
                sums[n][r * 2] *= shrink;
                sums[n][r * 2 + 1] *= shrink;
            }
        }
        #pragma unroll
        for (int key = 0; key < KEYS; key += 16) {
            float* left = scores[key / 8];
            float* right = scores[key / 8 + 1];
            u32 weights[4] = {pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]),
                              pack_bf16(right[0], right[1]), pack_bf16(right[2], right[3])};
            #pragma unroll
            for (int n = 0; n < D / 8; n += 2) {
                u32 values[4];
                ldmatrix4<true>(values, V + (key + lane % 16) * PITCH + n * 8 + lane / 16 * 8);
                mma_bf16(sums[n], weights, values[0], values[1]);
                mma_bf16(sums[n + 1], weights, values[2], values[3]);
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < 2; ++r) {
        int query = begin + mine + g + r * 8;
        float sum = quad_sum(total[r]);
        if (query >= T) continue;
        #pragma unroll
        for (int n = 0; n < D / 8; ++n) {
            float* to = o + (first + query) * D + n * 8 + t * 2;
            to[0] = sums[n][r * 2] / sum;
            to[1] = sums[n][r * 2 + 1] / sum;
        }
    }
}
