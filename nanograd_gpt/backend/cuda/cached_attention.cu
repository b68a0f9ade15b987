// Attention of new tokens over a cache of keys and values (FlashDecoding, Dao et al. 2023), and the cache's new rows:
//
//     context = sum of w V / sum of w, over the slots s up to the token's own        w = exp(scale q . K[s])
//
// Bound by memory: each key and value is read once, for four operations on every number.  A block takes SPLIT slots of
// one query and head, so that a single text of one token fills the GPU; the last block of the query merges what its
// blocks found, in the order of the slots.  Where the splits are depends on the slots alone: a row has the same bits in
// every batch.
//
// qkv (B, T, 3C), C = H * width, keys and values (B, H, S, width); D >= width is what the kernel is compiled for.  The
// slots of a row's T new tokens are consecutive.  Their keys and values are taken from qkv, as no other block can tell
// when they have been written.
#include "attention.cuh"

constexpr int THREADS = 128;  // at least D
constexpr int SPLIT = 64;     // slots of a block
constexpr int N = 4;          // numbers of a row that a lane has
constexpr int AT_ONCE = 4;    // slots whose loads a thread has under way

// Floats of what a group of lanes or a block has found: D sums of w V, the largest score, the sum of w; aligned.
template <int D>
constexpr int FOUND = D + 4;

struct Found {
    float sum, largest, total;
};

// Number d of n results merged, each relative to its own largest score.
template <int D>
__device__ __forceinline__ Found merged(const float* found, int n, int d) {
    Found all = {0.0f, -infinity(), 0.0f};
    for (int i = 0; i < n; ++i) all.largest = fmaxf(all.largest, found[i * FOUND<D> + D]);
    for (int i = 0; i < n; ++i) {
        float factor = exp2f((found[i * FOUND<D> + D] - all.largest) * LOG2E);
        all.sum += factor * found[i * FOUND<D> + d];
        all.total += factor * found[i * FOUND<D> + D + 1];
    }
    return all;
}

// N numbers of a row, from d on; zeros beyond its width, and where the row is not `inside`.
template <class T>
__device__ __forceinline__ void load_part(float (&part)[N], const T* row, int d, int width, bool inside) {
    if (width % N == 0) {
        load_floats(part, row + d, inside && d < width);
    } else {
        #pragma unroll
        for (int i = 0; i < N; ++i) part[i] = inside && d + i < width ? static_cast<float>(row[d + i]) : 0.0f;
    }
}

// One block for each query and head, (b * H + h) * T + t, and each split of the slots.
template <class T, int D>
__global__ void __launch_bounds__(THREADS) cached_attention(
    const T* __restrict__ qkv, T* keys, T* values, const long long* __restrict__ slots, T* __restrict__ context,
    float* __restrict__ parts, unsigned* __restrict__ tickets, int n_new, int H, int S, int width, float scale
) {
    constexpr int LANES = D / N, GROUPS = THREADS / LANES;  // a group of lanes reads a slot
    __shared__ __align__(16) float shared[GROUPS * FOUND<D>];
    int head = blockIdx.x / n_new, t = blockIdx.x % n_new, b = head / H, C = H * width;
    int first = static_cast<int>(slots[static_cast<long long>(b) * n_new]), n = first + t + 1;
    int begin = blockIdx.y * SPLIT, end = min(n, begin + SPLIT), splits = (n + SPLIT - 1) / SPLIT;
    if (begin >= n) return;
    const T* added = qkv + static_cast<long long>(b) * n_new * 3 * C + head % H * width;
    const T* own = added + static_cast<long long>(t) * 3 * C;
    T* head_keys = keys + static_cast<long long>(head) * S * width;
    T* head_values = values + static_cast<long long>(head) * S * width;
    if (end == n && threadIdx.x < width) {
        long long to = static_cast<long long>(n - 1) * width + threadIdx.x;
        head_keys[to] = own[C + threadIdx.x];
        head_values[to] = own[2 * C + threadIdx.x];
    }
    int group = threadIdx.x / LANES, d = threadIdx.x % LANES * N;
    float q[N], sums[N] = {}, largest = -infinity(), total = 0.0f;
    load_part(q, own, d, width, true);
    for (int at = begin; at < end; at += GROUPS * AT_ONCE) {
        float k[AT_ONCE][N], v[AT_ONCE][N], scores[AT_ONCE];
        #pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            int s = at + i * GROUPS + group;
            const T* new_row = added + static_cast<long long>(s - first) * 3 * C;
            long long row = static_cast<long long>(s) * width;
            load_part(k[i], s < first ? head_keys + row : new_row + C, d, width, s < end);
            load_part(v[i], s < first ? head_values + row : new_row + 2 * C, d, width, s < end);
        }
        float top = largest;
        #pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            float product = 0.0f;
            #pragma unroll
            for (int j = 0; j < N; ++j) product += q[j] * k[i][j];
            product = sum_of_row<LANES>(product);
            scores[i] = at + i * GROUPS + group < end ? product * scale : -infinity();
            top = fmaxf(top, scores[i]);
        }
        float shrink = top == largest ? 1.0f : exp2f((largest - top) * LOG2E);  // both are -inf before the first slot
        largest = top;
        total *= shrink;
        #pragma unroll
        for (int j = 0; j < N; ++j) sums[j] *= shrink;
        #pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            float weight = at + i * GROUPS + group < end ? exp2f((scores[i] - top) * LOG2E) : 0.0f;
            total += weight;
            #pragma unroll
            for (int j = 0; j < N; ++j) sums[j] += weight * v[i][j];
        }
    }
    float* found = shared + group * FOUND<D>;
    store_floats(found + d, sums);
    if (d == 0) {
        found[D] = largest;
        found[D + 1] = total;
    }
    __syncthreads();  // every group's result is read below
    int column = threadIdx.x % D;
    Found all = merged<D>(shared, GROUPS, column);
    if (splits > 1) {
        float* of_query = parts + static_cast<long long>(blockIdx.x) * gridDim.y * FOUND<D>;
        float* part = of_query + blockIdx.y * FOUND<D>;
        if (threadIdx.x < D) part[column] = all.sum;
        if (threadIdx.x == 0) {
            part[D] = all.largest;
            part[D + 1] = all.total;
        }
        if (!is_last_block(tickets + blockIdx.x, splits)) return;
        all = merged<D>(of_query, splits, column);
    }
    T* to = context + (static_cast<long long>(b) * n_new + t) * C + head % H * width;
    if (threadIdx.x < width) to[threadIdx.x] = static_cast<T>(all.sum / all.total);
}

// The keys and values of T tokens from slot 0 on; a thread copies N numbers of each, or one where width is odd.
template <class T>
__global__ void __launch_bounds__(256) fill_cache(
    const T* __restrict__ qkv, T* __restrict__ keys, T* __restrict__ values, int n_new, int H, int S, int width,
    long long size
) {
    bool whole = width % N == 0;
    int C = H * width;
    long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * (whole ? N : 1);
    if (i >= size) return;
    long long row = i / C, b = row / n_new, t = row % n_new;
    int c = static_cast<int>(i % C), h = c / width;
    const T* key = qkv + row * 3 * C + C + c;
    long long to = ((b * H + h) * S + t) * width + c % width;
    if (whole) {
        float k[N], v[N];
        load_floats(k, key, true);
        load_floats(v, key + C, true);
        store_floats(keys + to, k);
        store_floats(values + to, v);
    } else {
        keys[to] = key[0];
        values[to] = key[C];
    }
}
