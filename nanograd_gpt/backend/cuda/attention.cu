// Causal attention (Vaswani et al. 2017) in float32, without a T x T array in memory (FlashAttention-2, Dao 2023):
//
//     S = scale Q K^T     P = softmax(S), later keys masked     context = (P * keep / (1 - rate)) V
//     lse = log(sum(exp(S)))     dP = keep / (1 - rate) * (dcontext V^T)     delta = sum(dcontext * context)
//     dS = P (dP - delta)     dQ = scale dS K     dK = scale dS^T Q     dV = (P * keep / (1 - rate))^T dcontext
//
// Bound by float32 multiplications, 2 D for a pair of query and key forward and 7 D backward; half of the pairs are
// masked, and tiles of later keys left out.  A block keeps a tile of rows in shared memory and lets tiles of 32 columns
// pass by: rows are queries and columns keys, for dK and dV the other way round.  A thread has 4 x 4 scores at a time,
// and 8 lanes share a row.
//
// qkv (B, T, 3C), C = H * width, is read where it lies; D >= width is what the kernel is compiled for.  keep is null or
// (B, H, T, ceil(T / 32)), of mask_bits in dropout.cu.  blockIdx is the head and, from the heaviest on, the tile.
#include "attention.cuh"

constexpr int COLS = 32;               // of a tile that passes by: as many as a word of the mask has bits
constexpr int LANES = 8;               // that share a row
constexpr int ROWS_APART = WARP / LANES;
constexpr int R = 4;                   // rows of a thread, ROWS_APART apart
constexpr int C = COLS / LANES;        // columns of a thread, LANES apart
constexpr int ROWS_OF_WARP = R * ROWS_APART;
constexpr int FORWARD_WARPS = 4;

// Floats from row to row of a tile: lanes that read 16 bytes each of 8 rows meet no bank twice.
template <int D>
constexpr int PITCH = D + 4;
constexpr int WEIGHT_PITCH = COLS + 8;  // likewise for lanes that write a float each to 4 rows

// A thread's first row of its block's tile, and its first column.
struct Place {
    int row = threadIdx.x / WARP * ROWS_OF_WARP + threadIdx.x % WARP / LANES;
    int col = threadIdx.x % LANES;
};

// Copy ROWS x width of a head to shared memory; what lies beyond its T rows or its width becomes 0.
template <int ROWS, int D, int THREADS>
__device__ __forceinline__ void load_tile(
    float* tile, const float* __restrict__ from, int pitch, int first, int T, int width
) {
    constexpr int N = Pack<float>::N, AT_ONCE = THREADS / (D / N);  // rows
    constexpr int UNDER_WAY = D > 64 ? 2 : 4;                       // loads, for which there have to be registers
    if (width % N == 0) {
        int row = threadIdx.x / (D / N), d = threadIdx.x % (D / N) * N;
        #pragma unroll UNDER_WAY
        for (int i = row; i < ROWS; i += AT_ONCE) {
            Pack<float> pack = {};
            if (first + i < T && d < width) pack = load_pack(from + static_cast<long long>(first + i) * pitch + d);
            store_pack(tile + i * PITCH<D> + d, pack);
        }
    } else {
        #pragma unroll 1
        for (int i = threadIdx.x; i < ROWS * D; i += THREADS) {
            int row = i / D, d = i % D;
            bool there = first + row < T && d < width;
            tile[row * PITCH<D> + d] = there ? from[static_cast<long long>(first + row) * pitch + d] : 0.0f;
        }
    }
}

// sums += rows . columns^T, of this thread's R rows and C columns; both tiles (..., D).  One turn is 64 multiplications
// for 8 loads; more turns at once would take more registers than there are.
template <int D>
__device__ __forceinline__ void add_products(float (&sums)[R][C], const float* rows, const float* columns) {
    constexpr int N = Pack<float>::N;
    #pragma unroll 1
    for (int d = 0; d < D; d += N) {
        Pack<float> x[R], y[C];
        #pragma unroll
        for (int r = 0; r < R; ++r) x[r] = load_pack(rows + r * ROWS_APART * PITCH<D> + d);
        #pragma unroll
        for (int c = 0; c < C; ++c) y[c] = load_pack(columns + c * LANES * PITCH<D> + d);
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            #pragma unroll
            for (int r = 0; r < R; ++r) {
                #pragma unroll
                for (int c = 0; c < C; ++c) sums[r][c] += x[r].x[i] * y[c].x[i];
            }
        }
    }
}

// sums += weights . tile, of this thread's R rows and of 4 columns of every 32; weights (..., COLS), tile (COLS, D).
template <int D>
__device__ __forceinline__ void add_weighted(float (&sums)[R][D / LANES], const float* weights, const float* tile) {
    constexpr int N = Pack<float>::N;
    #pragma unroll 1
    for (int k = 0; k < COLS; k += N) {
        Pack<float> w[R];
        #pragma unroll
        for (int r = 0; r < R; ++r) w[r] = load_pack(weights + r * ROWS_APART * WEIGHT_PITCH + k);
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            #pragma unroll
            for (int j = 0; j < D / LANES; j += N) {
                Pack<float> y = load_pack(tile + (k + i) * PITCH<D> + j * LANES);
                #pragma unroll
                for (int r = 0; r < R; ++r) {
                    #pragma unroll
                    for (int n = 0; n < N; ++n) sums[r][j + n] += w[r].x[i] * y.x[n];
                }
            }
        }
    }
}

// Write factor * row: a thread's part of it, as add_weighted has it.
template <int D>
__device__ __forceinline__ void store_row(float* to, const float (&row)[D / LANES], float factor, int col, int width) {
    constexpr int N = Pack<float>::N;
    #pragma unroll
    for (int j = 0; j < D / LANES; j += N) {
        int d = j * LANES + col * N;
        Pack<float> pack;
        #pragma unroll
        for (int n = 0; n < N; ++n) pack.x[n] = row[j + n] * factor;
        if (width % N == 0) {
            if (d < width) store_pack(to + d, pack);
        } else {
            #pragma unroll
            for (int n = 0; n < N; ++n) {
                if (d + n < width) to[d + n] = pack.x[n];
            }
        }
    }
}

// One block a tile of queries, the last ones, which see the most keys, first.
template <int D>
__global__ void __launch_bounds__(FORWARD_WARPS * WARP) attention_forward(
    const float* __restrict__ qkv, const unsigned* __restrict__ keep, float* __restrict__ context,
    float* __restrict__ lse, int T, int H, int width, float scale, float survive
) {
    constexpr int ROWS = FORWARD_WARPS * ROWS_OF_WARP, THREADS = FORWARD_WARPS * WARP;
    extern __shared__ __align__(16) float shared[];
    float* Q = shared;
    float* K = Q + ROWS * PITCH<D>;
    float* V = K + COLS * PITCH<D>;
    float* weights = V + COLS * PITCH<D>;
    long long before = static_cast<long long>(blockIdx.x) * T;  // rows (B, H, T) of the heads before
    Place at;
    int first = (gridDim.y - 1 - blockIdx.y) * ROWS, size = H * width, W = (T + COLS - 1) / COLS;
    const float* q = qkv + head_begin(T, H, width, 3);
    load_tile<ROWS, D, THREADS>(Q, q, 3 * size, first, T, width);
    float sums[R][D / LANES] = {}, largest[R], total[R] = {};
    #pragma unroll
    for (int r = 0; r < R; ++r) largest[r] = -infinity();
    for (int key = 0; key < min(T, first + ROWS); key += COLS) {
        __syncthreads();  // the tile before may still be read
        load_tile<COLS, D, THREADS>(K, q + size, 3 * size, key, T, width);
        load_tile<COLS, D, THREADS>(V, q + 2 * size, 3 * size, key, T, width);
        __syncthreads();
        if (key >= first + (at.row / ROWS_OF_WARP + 1) * ROWS_OF_WARP) continue;  // later than this warp's queries
        float scores[R][C] = {};
        add_products<D>(scores, Q + at.row * PITCH<D>, K + at.col * PITCH<D>);
        #pragma unroll
        for (int r = 0; r < R; ++r) {
            int row = at.row + r * ROWS_APART, query = first + row;
            float top = largest[r];
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                bool seen = key + at.col + c * LANES <= query;
                scores[r][c] = seen ? scores[r][c] * scale : -infinity();
                top = fmaxf(top, scores[r][c]);
            }
            top = max_of_row<LANES>(top);
            float shrink = exp2f((largest[r] - top) * LOG2E);
            largest[r] = top;
            total[r] *= shrink;  // of this lane's columns
            #pragma unroll
            for (int i = 0; i < D / LANES; ++i) sums[r][i] *= shrink;
            unsigned kept = keep ? keep[(before + min(query, T - 1)) * W + key / COLS] : ~0u;
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                int col = at.col + c * LANES;
                float weight = exp2f((scores[r][c] - top) * LOG2E);
                total[r] += weight;
                weights[row * WEIGHT_PITCH + col] = kept >> col & 1 ? weight : 0.0f;
            }
        }
        __syncwarp();
        add_weighted<D>(sums, weights + at.row * WEIGHT_PITCH, V + at.col * Pack<float>::N);
    }
    #pragma unroll
    for (int r = 0; r < R; ++r) {
        int query = first + at.row + r * ROWS_APART;
        float sum = sum_of_row<LANES>(total[r]);
        if (query >= T) continue;
        float* to = context + head_begin(T, H, width, 1) + static_cast<long long>(query) * size;
        store_row<D>(to, sums[r], survive / sum, at.col, width);
        if (at.col == 0) lse[before + query] = largest[r] + logf(sum);
    }
}

// dQ and delta; one block a tile of queries, as forward.
template <int D, int WARPS>
__global__ void __launch_bounds__(WARPS * WARP) attention_backward_q(
    const float* __restrict__ qkv, const float* __restrict__ context, const float* __restrict__ dcontext,
    const float* __restrict__ lse, const unsigned* __restrict__ keep, float* __restrict__ delta,
    float* __restrict__ dqkv, int T, int H, int width, float scale, float survive
) {
    constexpr int ROWS = WARPS * ROWS_OF_WARP, THREADS = WARPS * WARP;
    extern __shared__ __align__(16) float shared[];
    float* Q = shared;
    float* dO = Q + ROWS * PITCH<D>;
    float* K = dO + ROWS * PITCH<D>;
    float* V = K + COLS * PITCH<D>;
    float* weights = V + COLS * PITCH<D>;
    long long before = static_cast<long long>(blockIdx.x) * T;  // rows (B, H, T) of the heads before
    Place at;
    int first = (gridDim.y - 1 - blockIdx.y) * ROWS, size = H * width, W = (T + COLS - 1) / COLS;
    const float* q = qkv + head_begin(T, H, width, 3);
    load_tile<ROWS, D, THREADS>(Q, q, 3 * size, first, T, width);
    load_tile<ROWS, D, THREADS>(dO, dcontext + head_begin(T, H, width, 1), size, first, T, width);
    __syncthreads();
    float sums[R][D / LANES] = {}, lse_[R], delta_[R];
    #pragma unroll
    for (int r = 0; r < R; ++r) {
        int row = at.row + r * ROWS_APART, query = min(first + row, T - 1);
        const float* out = context + head_begin(T, H, width, 1) + static_cast<long long>(query) * size;
        float sum = 0.0f;
        for (int d = at.col; d < width; d += LANES) sum += out[d] * dO[row * PITCH<D> + d];
        delta_[r] = sum_of_row<LANES>(sum);
        lse_[r] = lse[before + query];
        if (at.col == 0 && first + row < T) delta[before + query] = delta_[r];
    }
    for (int key = 0; key < min(T, first + ROWS); key += COLS) {
        __syncthreads();
        load_tile<COLS, D, THREADS>(K, q + size, 3 * size, key, T, width);
        load_tile<COLS, D, THREADS>(V, q + 2 * size, 3 * size, key, T, width);
        __syncthreads();
        if (key >= first + (at.row / ROWS_OF_WARP + 1) * ROWS_OF_WARP) continue;
        float scores[R][C] = {}, dweights[R][C] = {};
        add_products<D>(scores, Q + at.row * PITCH<D>, K + at.col * PITCH<D>);
        add_products<D>(dweights, dO + at.row * PITCH<D>, V + at.col * PITCH<D>);
        #pragma unroll
        for (int r = 0; r < R; ++r) {
            int row = at.row + r * ROWS_APART, query = first + row;
            unsigned kept = keep ? keep[(before + min(query, T - 1)) * W + key / COLS] : ~0u;
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                int col = at.col + c * LANES;
                float weight = key + col <= query ? exp2f((scores[r][c] * scale - lse_[r]) * LOG2E) : 0.0f;
                float dweight = kept >> col & 1 ? dweights[r][c] * survive : 0.0f;
                weights[row * WEIGHT_PITCH + col] = weight * (dweight - delta_[r]);
            }
        }
        __syncwarp();
        add_weighted<D>(sums, weights + at.row * WEIGHT_PITCH, K + at.col * Pack<float>::N);
    }
    #pragma unroll
    for (int r = 0; r < R; ++r) {
        int query = first + at.row + r * ROWS_APART;
        if (query >= T) continue;
        float* to = dqkv + head_begin(T, H, width, 3) + static_cast<long long>(query) * 3 * size;
        store_row<D>(to, sums[r], scale, at.col, width);
    }
}

// dK and dV; one block a tile of keys, the first ones, which the most queries see, first.
template <int D, int WARPS>
__global__ void __launch_bounds__(WARPS * WARP) attention_backward_kv(
    const float* __restrict__ qkv, const float* __restrict__ dcontext, const float* __restrict__ lse,
    const float* __restrict__ delta, const unsigned* __restrict__ keep, float* __restrict__ dqkv, int T, int H,
    int width, float scale, float survive
) {
    constexpr int ROWS = WARPS * ROWS_OF_WARP, THREADS = WARPS * WARP, WORDS = ROWS / COLS;
    extern __shared__ __align__(16) float shared[];
    float* K = shared;
    float* V = K + ROWS * PITCH<D>;
    float* Q = V + ROWS * PITCH<D>;
    float* dO = Q + COLS * PITCH<D>;
    float* weights = dO + COLS * PITCH<D>;
    float* lse_ = weights + ROWS * WEIGHT_PITCH;
    float* delta_ = lse_ + COLS;
    unsigned* kept = reinterpret_cast<unsigned*>(delta_ + COLS);  // (COLS, WORDS)
    long long before = static_cast<long long>(blockIdx.x) * T;  // rows (B, H, T) of the heads before
    Place at;
    int first = blockIdx.y * ROWS, size = H * width, W = (T + COLS - 1) / COLS;
    const float* q = qkv + head_begin(T, H, width, 3);
    load_tile<ROWS, D, THREADS>(K, q + size, 3 * size, first, T, width);
    load_tile<ROWS, D, THREADS>(V, q + 2 * size, 3 * size, first, T, width);
    float dk[R][D / LANES] = {}, dv[R][D / LANES] = {};
    for (int query = first; query < T; query += COLS) {
        __syncthreads();
        load_tile<COLS, D, THREADS>(Q, q, 3 * size, query, T, width);
        load_tile<COLS, D, THREADS>(dO, dcontext + head_begin(T, H, width, 1), size, query, T, width);
        for (int i = threadIdx.x; i < COLS; i += THREADS) {
            bool there = query + i < T;
            lse_[i] = there ? lse[before + query + i] : infinity();  // so its weights are 0
            delta_[i] = there ? delta[before + query + i] : 0.0f;
        }
        for (int i = threadIdx.x; i < COLS * WORDS; i += THREADS) {
            long long row = before + min(query + i / WORDS, T - 1);
            kept[i] = keep ? keep[row * W + min(first / COLS + i % WORDS, W - 1)] : ~0u;
        }
        __syncthreads();
        float scores[R][C] = {}, dweights[R][C] = {};
        add_products<D>(scores, K + at.row * PITCH<D>, Q + at.col * PITCH<D>);
        add_products<D>(dweights, V + at.row * PITCH<D>, dO + at.col * PITCH<D>);
        #pragma unroll
        for (int c = 0; c < C; ++c) {
            int col = at.col + c * LANES;
            float lse_of_col = lse_[col], delta_of_col = delta_[col];
            unsigned word = kept[col * WORDS + at.row / COLS] >> at.row % COLS;  // of all rows of the warp
            #pragma unroll
            for (int r = 0; r < R; ++r) {
                int row = at.row + r * ROWS_APART;
                bool seen = first + row <= query + col;
                float factor = word >> r * ROWS_APART & 1 ? survive : 0.0f;
                float weight = seen ? exp2f((scores[r][c] * scale - lse_of_col) * LOG2E) : 0.0f;
                weights[row * WEIGHT_PITCH + col] = weight * factor;
                scores[r][c] = weight * (dweights[r][c] * factor - delta_of_col);
            }
        }
        __syncwarp();
        add_weighted<D>(dv, weights + at.row * WEIGHT_PITCH, dO + at.col * Pack<float>::N);
        __syncwarp();
        #pragma unroll
        for (int r = 0; r < R; ++r) {
            #pragma unroll
            for (int c = 0; c < C; ++c) {
                weights[(at.row + r * ROWS_APART) * WEIGHT_PITCH + at.col + c * LANES] = scores[r][c];
            }
        }
        __syncwarp();
        add_weighted<D>(dk, weights + at.row * WEIGHT_PITCH, Q + at.col * Pack<float>::N);
    }
    #pragma unroll
    for (int r = 0; r < R; ++r) {
        int key = first + at.row + r * ROWS_APART;
        if (key >= T) continue;
        float* to = dqkv + head_begin(T, H, width, 3) + static_cast<long long>(key) * 3 * size;
        store_row<D>(to + size, dk[r], scale, at.col, width);
        store_row<D>(to + 2 * size, dv[r], 1.0f, at.col, width);
    }
}
