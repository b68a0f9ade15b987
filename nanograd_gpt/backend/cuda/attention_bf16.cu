// Causal attention in bf16 with float32 sums, by tensor cores: the formulas of attention.cu.
//
// Bound by the tensor cores: 2 products of T x T x D forward and 7 backward, half of each masked.  A block keeps a tile
// of rows, in registers where they suffice, and lets tiles pass by in two buffers: one is copied while the other is
// computed with.  Heads of width < D are filled up with 0; width is a multiple of 8.  A head's mask has to have fewer
// than 2^31 words.
#include "attention.cuh"
#include "tiles_bf16.cuh"

constexpr int WARPS = 4, THREADS = WARPS * WARP;
constexpr int TILE = 64;          // rows of a tile that passes by, and of a block's in backward
constexpr int WORDS = TILE / 32;  // of the mask for a row of a tile
constexpr int QUAD = 4;           // lanes that share a row

// One block a tile of 128 queries, the last ones, which see the most keys, first; a warp has 32 of them.
template <int D, bool DROP>
__global__ void __launch_bounds__(THREADS, 2) attention_bf16_forward(
    const bf16* __restrict__ qkv, const unsigned* __restrict__ keep, bf16* __restrict__ context,
    float* __restrict__ lse, int T, int H, int width, float scale, float survive
) {
    constexpr int M = D > 64 ? 1 : 2, N = TILE / 8, ROWS = WARPS * M * 16;
    extern __shared__ __align__(256) u16 shared[];
    u16* Q = shared;
    u16* K = Q + ROWS * D;  // two buffers
    u16* V = K + 2 * TILE * D;
    Lane l;
    int first = (gridDim.y - 1 - blockIdx.y) * ROWS, mine = first + l.warp * M * 16, size = H * width;
    int W = (T + 31) / 32;
    int pitch = 3 * size;
    long long before = static_cast<long long>(blockIdx.x) * T;
    const u16* q = reinterpret_cast<const u16*>(qkv) + head_begin(T, H, width, 3);
    const unsigned* mask = keep + before * W;
    int tiles = (min(T, first + ROWS) + TILE - 1) / TILE;
    auto start = [&](int tile) {
        start_tile<TILE, D, THREADS>(K + (tile & 1) * TILE * D, q + size, pitch, tile * TILE, T, width);
        start_tile<TILE, D, THREADS>(V + (tile & 1) * TILE * D, q + 2 * size, pitch, tile * TILE, T, width);
        cp_async_commit();
    };
    start_tile<ROWS, D, THREADS>(Q, q, pitch, first, T, width);
    start(0);
    Rows<D, true> rows[M];
    float sums[M][D / 8][4] = {}, largest[M][2], total[M][2] = {};
    #pragma unroll
    for (int m = 0; m < M; ++m) largest[m][0] = largest[m][1] = -infinity();
    for (int tile = 0; tile < tiles; ++tile) {
        if (tile + 1 < tiles) {
            start(tile + 1);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        if (tile == 0) {
            #pragma unroll
            for (int m = 0; m < M; ++m) rows[m].load(Q, mine - first + m * 16, l);
        }
        int key = tile * TILE;
        float scores[M][N][4] = {};
        add_products<D>(scores, rows, K + (tile & 1) * TILE * D, l);
        u32 weights[M][N / 2][4];
        #pragma unroll
        for (int m = 0; m < M; ++m) {
            int query = mine + m * 16 + l.g;
            if (key + TILE > mine + m * 16) {
                #pragma unroll
                for (int n = 0; n < N; ++n) {
                    #pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        bool seen = key + n * 8 + l.t * 2 + i % 2 <= query + i / 2 * 8;
                        if (!seen) scores[m][n][i] = -infinity();
                    }
                }
            }
            #pragma unroll
            for (int r = 0; r < 2; ++r) {
                float top = largest[m][r];
                #pragma unroll
                for (int n = 0; n < N; ++n) top = fmaxf(top, fmaxf(scores[m][n][2 * r], scores[m][n][2 * r + 1]));
                top = max_of_row<QUAD>(top);
                float shrink = exp2_approx((largest[m][r] - top) * scale * LOG2E), off = top * scale * LOG2E;
                largest[m][r] = top;
                total[m][r] *= shrink;  // of this lane's columns
                #pragma unroll
                for (int n = 0; n < D / 8; ++n) {
                    sums[m][n][2 * r] *= shrink;
                    sums[m][n][2 * r + 1] *= shrink;
                }
                #pragma unroll
                for (int word = 0; word < WORDS; ++word) {
                    int column = key / 32 + word, row = min(query + r * 8, T - 1);
                    u32 kept = DROP && column < W ? mask[row * W + column] >> l.t * 2 : 0;
                    #pragma unroll
                    for (int i = 0; i < 8; ++i) {
                        float& score = scores[m][word * 4 + i / 2][2 * r + i % 2];
                        score = exp2_approx(score * (scale * LOG2E) - off);
                        total[m][r] += score;
                        if (DROP && !(kept >> (i / 2 * 8 + i % 2) & 1)) score = 0.0f;
                    }
                }
            }
            round_weights(weights[m], scores[m]);
        }
        add_weighted<D>(sums, weights, V + (tile & 1) * TILE * D, l);
        __syncthreads();  // before the next copies to this buffer
    }
    bf16* to = context + head_begin(T, H, width, 1);
    #pragma unroll
    for (int m = 0; m < M; ++m) {
        float factor[2];
        #pragma unroll
        for (int r = 0; r < 2; ++r) {
            float sum = sum_of_row<QUAD>(total[m][r]);
            int query = mine + m * 16 + l.g + r * 8;
            factor[r] = survive / sum;
            if (l.t == 0 && query < T) lse[before + query] = largest[m][r] * scale + logf(sum);
        }
        store_rows<D>(to, size, sums[m], factor[0], factor[1], Q, mine - first + m * 16, first, T, width, l);
    }
}

// dQ and delta = sum(dcontext * context); one block a tile of queries, as forward.
template <int D, bool DROP>
__global__ void __launch_bounds__(THREADS, D > 64 ? 2 : 3) attention_bf16_backward_q(
    const bf16* __restrict__ qkv, const bf16* __restrict__ context, const bf16* __restrict__ dcontext,
    const float* __restrict__ lse, const unsigned* __restrict__ keep, float* __restrict__ delta,
    bf16* __restrict__ dqkv, int T, int H, int width, float scale, float survive
) {
    constexpr int N = TILE / 8;
    extern __shared__ __align__(256) u16 shared[];
    u16* K = shared;  // two buffers
    u16* V = K + 2 * TILE * D;
    u16* own = V + 2 * TILE * D;  // queries, then dcontext, at last dQ
    Lane l;
    int first = (gridDim.y - 1 - blockIdx.y) * TILE, mine = first + l.warp * 16, size = H * width, W = (T + 31) / 32;
    int pitch = 3 * size;
    long long before = static_cast<long long>(blockIdx.x) * T;
    long long begin = head_begin(T, H, width, 1);
    const unsigned* mask = keep + before * W;
    const u16* q = reinterpret_cast<const u16*>(qkv) + head_begin(T, H, width, 3);
    Rows<D, true> rows[1], drows[1];
    start_tile<TILE, D, THREADS>(own, q, pitch, first, T, width);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    rows[0].load(own, l.warp * 16, l);
    __syncthreads();
    start_tile<TILE, D, THREADS>(own, reinterpret_cast<const u16*>(dcontext) + begin, size, first, T, width);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    drows[0].load(own, l.warp * 16, l);
    float off[2], delta_[2];
    #pragma unroll
    for (int r = 0; r < 2; ++r) {
        int query = mine + l.g + r * 8, there = min(query, T - 1);
        const u16* out = reinterpret_cast<const u16*>(context) + begin + static_cast<long long>(there) * size;
        float sum = 0.0f;
        for (int chunk = l.t; chunk * CHUNK < width; chunk += 4) {
            Pack<u32> x = load_pack(reinterpret_cast<const u32*>(out + chunk * CHUNK));
            Pack<u32> y = load_pack(reinterpret_cast<const u32*>(at<D>(own, l.warp * 16 + l.g + r * 8, chunk)));
            #pragma unroll
            for (int i = 0; i < 4; ++i) sum += bf_lo(x.x[i]) * bf_lo(y.x[i]) + bf_hi(x.x[i]) * bf_hi(y.x[i]);
        }
        sum = sum_of_row<QUAD>(sum);
        if (l.t == 0 && query < T) delta[before + query] = sum;
        delta_[r] = sum / survive;
        off[r] = lse[before + there] * LOG2E;
    }
    int tiles = (min(T, first + TILE) + TILE - 1) / TILE;
    auto start = [&](int tile) {
        start_tile<TILE, D, THREADS>(K + (tile & 1) * TILE * D, q + size, pitch, tile * TILE, T, width);
        start_tile<TILE, D, THREADS>(V + (tile & 1) * TILE * D, q + 2 * size, pitch, tile * TILE, T, width);
        cp_async_commit();
    };
    float sums[1][D / 8][4] = {};
    start(0);
    for (int tile = 0; tile < tiles; ++tile) {
        if (tile + 1 < tiles) {
            start(tile + 1);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        float scores[1][N][4] = {}, dweights[1][N][4] = {};
        add_products<D>(scores, rows, K + (tile & 1) * TILE * D, l);
        add_products<D>(dweights, drows, V + (tile & 1) * TILE * D, l);
        if (tile + 1 == tiles) {
            #pragma unroll
            for (int n = 0; n < N; ++n) {
                #pragma unroll
                for (int i = 0; i < 4; ++i) {
                    bool seen = tile * TILE + n * 8 + l.t * 2 + i % 2 <= mine + l.g + i / 2 * 8;
                    if (!seen) scores[0][n][i] = -infinity();
                }
            }
        }
        #pragma unroll
        for (int r = 0; r < 2; ++r) {
            int query = mine + l.g + r * 8;
            #pragma unroll
            for (int word = 0; word < WORDS; ++word) {
                int column = tile * WORDS + word;
                u32 kept = DROP && column < W ? mask[min(query, T - 1) * W + column] >> l.t * 2 : 0;
                #pragma unroll
                for (int i = 0; i < 8; ++i) {
                    int n = word * 4 + i / 2, j = 2 * r + i % 2, col = i / 2 * 8 + i % 2;
                    float weight = exp2_approx(scores[0][n][j] * (scale * LOG2E) - off[r]);
                    float dweight = !DROP || kept >> col & 1 ? dweights[0][n][j] : 0.0f;
                    dweights[0][n][j] = weight * (dweight - delta_[r]);
                }
            }
        }
        u32 rounded[1][N / 2][4];
        round_weights(rounded[0], dweights[0]);
        add_weighted<D>(sums, rounded, K + (tile & 1) * TILE * D, l);
        __syncthreads();
    }
    float factor = scale * survive;
    bf16* to = dqkv + head_begin(T, H, width, 3);
    store_rows<D>(to, pitch, sums[0], factor, factor, own, l.warp * 16, first, T, width, l);
}

__device__ __forceinline__ float2 load_pair(const float* from) {
    return *reinterpret_cast<const float2*>(from);
}

// dK and dV; one block a tile of keys.  Its scores are transposed, keys in rows; a dropped weight is kept negative.
template <int D, bool DROP>
__global__ void __launch_bounds__(THREADS, D > 64 ? 2 : 4) attention_bf16_backward_kv(
    const bf16* __restrict__ qkv, const bf16* __restrict__ dcontext, const float* __restrict__ lse,
    const float* __restrict__ delta, const unsigned* __restrict__ keep, bf16* __restrict__ dqkv, int T, int H,
    int width, float scale, float survive
) {
    constexpr int QUERIES = 32, N = QUERIES / 8;  // few registers, so that more blocks hide each other's waits
    extern __shared__ __align__(256) u16 shared[];
    u16* Q = shared;  // two buffers of each
    u16* dO = Q + 2 * QUERIES * D;
    float* offs = reinterpret_cast<float*>(dO + 2 * QUERIES * D);
    float* deltas = offs + 2 * QUERIES;
    u32* kept = reinterpret_cast<u32*>(deltas + 2 * QUERIES);       // (2, QUERIES, WORDS)
    u16* own = reinterpret_cast<u16*>(kept + 2 * QUERIES * WORDS);  // keys, at last their gradients
    u16* own_values = own + TILE * D;
    Lane l;
    int first = blockIdx.y * TILE, size = H * width, W = (T + 31) / 32;
    int pitch = 3 * size;
    long long before = static_cast<long long>(blockIdx.x) * T;
    const u16* q = reinterpret_cast<const u16*>(qkv) + head_begin(T, H, width, 3);
    const u16* d = reinterpret_cast<const u16*>(dcontext) + head_begin(T, H, width, 1);
    const unsigned* mask = keep + before * W;
    float share = 1.0f / survive;  // of the weights that are kept
    Rows<D, false> keys[1], values[1];
    start_tile<TILE, D, THREADS>(own, q + size, pitch, first, T, width);
    start_tile<TILE, D, THREADS>(own_values, q + 2 * size, pitch, first, T, width);
    keys[0].load(own, l.warp * 16, l);
    values[0].load(own_values, l.warp * 16, l);
    auto start = [&](int tile) {
        int buffer = (tile & 1) * QUERIES, i = threadIdx.x;
        start_tile<QUERIES, D, THREADS>(Q + buffer * D, q, pitch, tile * QUERIES, T, width);
        start_tile<QUERIES, D, THREADS>(dO + buffer * D, d, size, tile * QUERIES, T, width);
        cp_async_commit();
        if (i < QUERIES) {
            int query = tile * QUERIES + i;
            offs[buffer + i] = query < T ? lse[before + query] * LOG2E : infinity();  // so its weights are 0
            deltas[buffer + i] = query < T ? delta[before + query] * share : 0.0f;
        }
        if (DROP && i < QUERIES * WORDS) {
            int query = min(tile * QUERIES + i / WORDS, T - 1), column = min(first / 32 + i % WORDS, W - 1);
            kept[buffer * WORDS + i] = mask[query * W + column];
        }
    };
    float dk[1][D / 8][4] = {}, dv[1][D / 8][4] = {};
    int key = first + l.warp * 16 + l.g;
    start(first / QUERIES);
    for (int tile = first / QUERIES; tile * QUERIES < T; ++tile) {
        if ((tile + 1) * QUERIES < T) {
            start(tile + 1);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        int buffer = (tile & 1) * QUERIES;
        float scores[1][N][4] = {}, dweights[1][N][4] = {}, weights[1][N][4];
        add_products<D>(scores, keys, Q + buffer * D, l);
        if (tile * QUERIES < first + TILE) {
            #pragma unroll
            for (int n = 0; n < N; ++n) {
                #pragma unroll
                for (int i = 0; i < 4; ++i) {
                    bool seen = key + i / 2 * 8 <= tile * QUERIES + n * 8 + l.t * 2 + i % 2;
                    if (!seen) scores[0][n][i] = -infinity();
                }
            }
        }
        #pragma unroll
        for (int n = 0; n < N; ++n) {
            float2 off = load_pair(offs + buffer + n * 8 + l.t * 2);
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                int col = n * 8 + l.t * 2 + i % 2;
                float weight = exp2_approx(scores[0][n][i] * (scale * LOG2E) - (i % 2 ? off.y : off.x));
                if (DROP) {
                    u32 word = kept[(buffer + col) * WORDS + l.warp / 2];
                    weight = word >> (l.warp % 2 * 16 + l.g + i / 2 * 8) & 1 ? weight : -weight;
                }
                scores[0][n][i] = weight;
                weights[0][n][i] = DROP ? fmaxf(weight, 0.0f) : weight;
            }
        }
        u32 rounded[1][N / 2][4];
        round_weights(rounded[0], weights[0]);
        add_weighted<D>(dv, rounded, dO + buffer * D, l);
        add_products<D>(dweights, values, dO + buffer * D, l);
        #pragma unroll
        for (int n = 0; n < N; ++n) {
            float2 delta_ = load_pair(deltas + buffer + n * 8 + l.t * 2);
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                float weight = scores[0][n][i], dweight = !DROP || weight > 0.0f ? dweights[0][n][i] : 0.0f;
                dweights[0][n][i] = fabsf(weight) * (dweight - (i % 2 ? delta_.y : delta_.x));
            }
        }
        round_weights(rounded[0], dweights[0]);
        add_weighted<D>(dk, rounded, Q + buffer * D, l);
        __syncthreads();
    }
    bf16* to = dqkv + head_begin(T, H, width, 3);
    float factor = scale * survive;
    store_rows<D>(to + size, pitch, dk[0], factor, factor, own, l.warp * 16, first, T, width, l);
    store_rows<D>(to + 2 * size, pitch, dv[0], survive, survive, own, l.warp * 16, first, T, width, l);
}
