// Inverted dropout (Srivastava et al. 2014), alone or with the residual sum, by a mask drawn in the kernel:
//
//     y = x * (kept ? 1 / (1 - rate) : 0) + residual
//
// Bound by memory: it reads x and the residual and writes y, once; no mask lies in memory.  In bf16, x is a layer's
// result, and the residual and y, on the residual stream, are float; backward goes the other way.  Attention reads its
// mask several times, so it gets one in packed bits; the plain formulas get bools.
#include "common.cuh"
#include "philox.cuh"

// A lane draws 16 elements of the warp's 512 and the lanes hand each other their bits, so that a warp's loads are of
// neighbouring packs.  `residual` may be null.
template <class X, class Y>
__global__ void __launch_bounds__(256) dropout(
    const X* __restrict__ x, const Y* __restrict__ residual, Y* __restrict__ y, long long size, float scale,
    unsigned long long seed, unsigned long long stream, unsigned long long call, unsigned long long first,
    unsigned threshold, const unsigned long long* __restrict__ origin
) {
    constexpr int N = 4, PACKS = DRAWN_AT_ONCE / N;
    int lane = threadIdx.x % WARP;
    long long warp = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
    unsigned drawn = keep_bits(recipe_of(seed, stream, call, first, threshold, origin), warp * WARP + lane);
    #pragma unroll
    for (int k = 0; k < PACKS; ++k) {
        int pack = k * WARP + lane;  // of the warp's
        unsigned bits = __shfl_sync(ALL_LANES, drawn, pack / PACKS) >> (pack % PACKS * N);
        long long i = (warp * WARP * PACKS + pack) * N;
        if (i + N <= size) {
            float values[N], added[N];
            load_floats(values, x + i, true);
            load_floats(added, residual + i, residual != nullptr);
            #pragma unroll
            for (int j = 0; j < N; ++j) values[j] = values[j] * (bits >> j & 1 ? scale : 0.0f) + added[j];
            store_floats(y + i, values);
        } else {
            for (int j = 0; i + j < size; ++j) {
                float value = static_cast<float>(x[i + j]) * (bits >> j & 1 ? scale : 0.0f);
                y[i + j] = static_cast<Y>(residual ? value + static_cast<float>(residual[i + j]) : value);
            }
        }
    }
}

// A mask as bools, 16 a thread.
__global__ void __launch_bounds__(256) mask_bools(
    bool* __restrict__ keep, long long size, unsigned long long seed, unsigned long long stream,
    unsigned long long call, unsigned long long first,
    unsigned threshold, const unsigned long long* __restrict__ origin
) {
    long long block = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, i = block * DRAWN_AT_ONCE;
    if (i >= size) return;
    unsigned bits = keep_bits(recipe_of(seed, stream, call, first, threshold, origin), block);
    Pack<bool> pack;
    #pragma unroll
    for (int j = 0; j < DRAWN_AT_ONCE; ++j) pack.x[j] = bits >> j & 1;
    if (i + DRAWN_AT_ONCE <= size) {
        store_pack(keep + i, pack);
    } else {
        for (int j = 0; i + j < size; ++j) keep[i + j] = bits >> j & 1;
    }
}

// Causal attention's mask (heads, T, T) in packed bits (heads, T, W): key k is bit k % 32 of its query's word k / 32.
// Words of later keys only are not written.  Queries q and T - 1 - q have W + 1 others at most: a block draws those of
// 32 such pairs of a head, so that few of its threads are without work.
__global__ void __launch_bounds__(64) mask_bits(
    unsigned* __restrict__ words, int T, int W, unsigned long long seed, unsigned long long stream,
    unsigned long long call, unsigned long long first,
    unsigned threshold, const unsigned long long* __restrict__ origin
) {
    constexpr int PAIRS = 32;
    Recipe recipe = recipe_of(seed, stream, call, first, threshold, origin);
    long long before = static_cast<long long>(blockIdx.x) * T;  // rows
    for (int i = threadIdx.x; i < PAIRS * (W + 1); i += blockDim.x) {
        int query = blockIdx.y * PAIRS + i / (W + 1), word = i % (W + 1), mirrored = T - 1 - query;
        if (query > mirrored) break;
        if (word > query / 32) {
            word -= query / 32 + 1;
            if (word > mirrored / 32 || mirrored == query) continue;
            query = mirrored;
        }
        long long row = before + query, at = row * T + word * 32, block = at / DRAWN_AT_ONCE;
        int skipped = static_cast<int>(at % DRAWN_AT_ONCE);
        unsigned bits = (keep_bits(recipe, block) | keep_bits(recipe, block + 1) << DRAWN_AT_ONCE) >> skipped;
        if (skipped) bits |= keep_bits(recipe, block + 2) << (32 - skipped);
        words[row * W + word] = bits;
    }
}

// The same from bools, a warp a word.
__global__ void __launch_bounds__(256) pack_bools(
    const bool* __restrict__ keep, unsigned* __restrict__ words, long long n_words, int T, int W
) {
    long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
    if (i >= n_words) return;
    int lane = threadIdx.x % WARP, key = static_cast<int>(i % W) * 32 + lane;
    unsigned word = __ballot_sync(ALL_LANES, key < T && keep[i / W * T + key]);
    if (lane == 0) words[i] = word;
}
