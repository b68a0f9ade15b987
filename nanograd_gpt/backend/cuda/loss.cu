// Cross-entropy: minus the mean log probability of each row's target.
//
//     M = max_v x_v        S = sum_v exp(x_v - M)        log-sum-exp = M + log S
//     loss = log S - (x_target - M)        d loss / d x_v = exp(x_v - M) / S - [v = target]
//
// All is bound by memory: the loss reads each logit once, the gradient reads and writes it once.  A block takes a row, a
// thread 16 bytes at a time.  M and S come from one pass (Milakov and Gimelshein 2018): where a larger M is met, the sum
// so far is scaled to it.  For the gradient the row is read again, from the L2 cache: to keep it in shared memory took
// 0.89 ms in place of 0.65 on an H200 (8192 rows of 50257 in bf16), as fewer blocks then run at a time.
//
// Rows of V logits begin anywhere if V is not a multiple of a pack.  A thread's packs are aligned all the same: the
// first one may begin before the row (at a negative column) and the last one end after it.
#include "common.cuh"

constexpr float LOWEST = -3.402823466e38f;  // of the finite floats

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fffffff); }

// The largest over a block of whole warps, in every thread; `per_warp` is shared memory of 32 floats.
__device__ __forceinline__ float block_max(float value, float* per_warp) {
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    value = warp_max(value);
    __syncthreads();  // the memory may still be read for an earlier reduction
    if (lane == 0) per_warp[warp] = value;
    __syncthreads();
    return warp_max(lane < warps ? per_warp[lane] : LOWEST);
}

// --- rows that begin anywhere

// The column at which the pack begins that holds the row's first element: 0, or less.
template <class T>
__device__ __forceinline__ int first_column(const T* row) {
    return -static_cast<int>(reinterpret_cast<unsigned long long>(row) / sizeof(T) % Pack<T>::N);
}

// The pack at a column; -infinity, which adds nothing to a softmax, outside of the row.
template <class T>
__device__ __forceinline__ Pack<T> load_part(const T* row, int column, int V) {
    if (column >= 0 && column + Pack<T>::N <= V) return load_pack(row + column);
    Pack<T> pack;
    #pragma unroll
    for (int k = 0; k < Pack<T>::N; ++k) {
        bool inside = column + k >= 0 && column + k < V;
        pack.x[k] = inside ? row[column + k] : static_cast<T>(-infinity());
    }
    return pack;
}

template <class T>
__device__ __forceinline__ void store_part(T* row, int column, int V, const Pack<T>& pack) {
    if (column >= 0 && column + Pack<T>::N <= V) {
        store_pack(row + column, pack);
        return;
    }
    #pragma unroll
    for (int k = 0; k < Pack<T>::N; ++k) {
        if (column + k >= 0 && column + k < V) row[column + k] = pack.x[k];
    }
}

// --- a row's softmax

// The largest of some logits, and their sum of exp(logit - largest).
//
// Infinite logits and nan make the total nan, as in the formulas.
struct Softmax {
    float largest = LOWEST;  // finite, so that -infinity is 0 in the total from the start
    float total = 0.0f;

    template <class T>
    __device__ __forceinline__ void add(const Pack<T>& logits) {
        float most = largest;
        #pragma unroll
        for (int k = 0; k < Pack<T>::N; ++k) most = fmaxf(most, static_cast<float>(logits.x[k]));
        if (most > largest) {
            total *= expf(largest - most);
            largest = most;
        }
        #pragma unroll
        for (int k = 0; k < Pack<T>::N; ++k) total += expf(static_cast<float>(logits.x[k]) - largest);
    }

    // Of all threads' logits.
    __device__ __forceinline__ Softmax over_block(float* per_warp) const {
        Softmax all;
        all.largest = block_max(largest, per_warp);
        all.total = block_sum(total * expf(largest - all.largest), per_warp);
        if (all.total == 0.0f) all.total = not_a_number();  // of nothing but -infinity
        return all;
    }
};

template <class T>
__device__ __forceinline__ Softmax softmax_of_row(const T* row, int V, float* per_warp) {
    Softmax mine;
    int step = blockDim.x * Pack<T>::N;
    for (int column = first_column(row) + static_cast<int>(threadIdx.x) * Pack<T>::N; column < V; column += step) {
        mine.add(load_part(row, column, V));
    }
    return mine.over_block(per_warp);
}

// The target's logit; nan for a target out of range, which the host cannot see without waiting.
template <class T>
__device__ __forceinline__ float logit_of(const T* row, long long target, int V) {
    return target >= 0 && target < V ? static_cast<float>(row[target]) : not_a_number();
}

// The gradient by a row's logits, times share, from the logits (which may lie where it goes).
template <class T>
__device__ __forceinline__ void write_gradient(
    const T* logits, T* gradient, long long target, float largest, float total, float share, int V
) {
    float scale = share / total;
    int step = blockDim.x * Pack<T>::N;
    int column = first_column(gradient) + static_cast<int>(threadIdx.x) * Pack<T>::N;
    for (; column < V; column += step) {
        Pack<T> pack = load_part(logits, column, V);
        #pragma unroll
        for (int k = 0; k < Pack<T>::N; ++k) {
            float probability = expf(static_cast<float>(pack.x[k]) - largest) * scale;
            pack.x[k] = static_cast<T>(column + k == target ? probability - share : probability);
        }
        store_part(gradient, column, V, pack);
    }
}

// --- kernels, a block a row

template <class T>
__global__ void __launch_bounds__(1024) cross_entropy(
    const T* __restrict__ logits, const long long* __restrict__ targets, float* __restrict__ losses,
    float* __restrict__ largest, float* __restrict__ total, int V
) {
    __shared__ float per_warp[WARP];
    const T* row = logits + static_cast<long long>(blockIdx.x) * V;
    Softmax softmax = softmax_of_row(row, V, per_warp);
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = logf(softmax.total) - (logit_of(row, targets[blockIdx.x], V) - softmax.largest);
        largest[blockIdx.x] = softmax.largest;
        total[blockIdx.x] = softmax.total;
    }
}

// The gradient from each row's largest and total (1 where null: `largest` is then the log-sum-exp).
// Rows are `pitch` elements apart; dlogits may be the logits.
template <class T>
__global__ void __launch_bounds__(1024) cross_entropy_backward(
    const T* logits, const long long* __restrict__ targets, const float* __restrict__ largest,
    const float* __restrict__ total, const float* __restrict__ dloss, T* dlogits, float share, int V, int pitch
) {
    long long row = blockIdx.x, at = row * pitch;
    float share_of_row = dloss ? *dloss * share : share, total_of_row = total ? total[row] : 1.0f;
    write_gradient(logits + at, dlogits + at, targets[row], largest[row], total_of_row, share_of_row, V);
}

// Each row's loss and log-sum-exp, and, if wanted, the gradient times share in place of the logits.
template <class T>
__global__ void __launch_bounds__(1024) cross_entropy_in_place(
    T* __restrict__ logits, const long long* __restrict__ targets, float* __restrict__ losses,
    float* __restrict__ log_sum_exp, float share, bool want_gradient, int V, int pitch
) {
    __shared__ float per_warp[WARP];
    T* row = logits + static_cast<long long>(blockIdx.x) * pitch;
    long long target = targets[blockIdx.x];
    float of_target = logit_of(row, target, V);  // before any thread overwrites it: the sums below are barriers
    Softmax softmax = softmax_of_row(row, V, per_warp);
    if (threadIdx.x == 0) {
        float logarithm = logf(softmax.total);
        losses[blockIdx.x] = logarithm - (of_target - softmax.largest);
        log_sum_exp[blockIdx.x] = softmax.largest + logarithm;
    }
    if (want_gradient) write_gradient(row, row, target, softmax.largest, softmax.total, share, V);
}

// y = x * factor, where y may be x: the gradient by the loss, which lies on the device.
template <class T>
__global__ void __launch_bounds__(256) times(const T* x, const float* __restrict__ factor, T* y, long long size) {
    constexpr int N = Pack<T>::N;
    long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i + N <= size) {
        float values[N];
        load_floats(values, x + i, true);
        #pragma unroll
        for (int k = 0; k < N; ++k) values[k] *= *factor;
        store_floats(y + i, values);
    } else {
        for (; i < size; ++i) y[i] = static_cast<T>(static_cast<float>(x[i]) * *factor);
    }
}

// The mean of the rows' losses; one block.
__global__ void __launch_bounds__(1024) mean(const float* __restrict__ losses, float* __restrict__ loss, int N) {
    __shared__ float per_warp[WARP];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < N; i += blockDim.x) sum += losses[i];
    sum = block_sum(sum, per_warp);
    if (threadIdx.x == 0) *loss = sum / N;
}
