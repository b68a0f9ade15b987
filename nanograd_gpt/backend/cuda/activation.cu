// GELU in its tanh form (Hendrycks and Gimpel 2016), and its gradient with that of the bias of a linear layer before it.
//
//     half(x) = (1 + tanh(x (r + r k x^2))) / 2        r = sqrt(2 / pi), k = 0.044715
//     gelu(x) = x half                                 gelu'(x) = half + 2 x (r + 3 r k x^2) half (1 - half)
//
// All are bound by memory; a tanhf is some 25 instructions an element, where an H100 has time for about 90.  A linear
// layer with GELU keeps h = x W^T + b, which its product writes in any case, and not gelu'(h): so GELU itself reads an
// element and writes one, and the gradient reads h and dy, and writes dh, from which it also takes the bias's.
#include "columns.cuh"

constexpr float ROOT = 0.7978845608028654f, CUBIC = 0.044715f;
constexpr int BLOCK = 256;

__device__ __forceinline__ float half_of(float x) {
    return 0.5f * (1.0f + tanhf(x * (ROOT + ROOT * CUBIC * x * x)));
}

__device__ __forceinline__ float derivative_of(float x, float half) {
    return half + 2.0f * x * (ROOT + 3.0f * ROOT * CUBIC * x * x) * half * (1.0f - half);
}

// y = gelu(x), and its derivative unless it is null.  N: a pack's, or 1 for what is left beyond whole packs.
template <int N, class T>
__device__ __forceinline__ void gelu_at(const T* x, T* y, T* derivative) {
    float values[N], half[N], out[N];
    load_floats(values, x, true);
    #pragma unroll
    for (int i = 0; i < N; ++i) {
        half[i] = half_of(values[i]);
        out[i] = values[i] * half[i];
    }
    store_floats(y, out);
    if (!derivative) return;
    #pragma unroll
    for (int i = 0; i < N; ++i) out[i] = derivative_of(values[i], half[i]);
    store_floats(derivative, out);
}

template <class T>
__global__ void __launch_bounds__(BLOCK) gelu(
    const T* __restrict__ x, T* __restrict__ y, T* __restrict__ derivative, long long size
) {
    constexpr int N = Pack<T>::N;
    long long i = (static_cast<long long>(blockIdx.x) * BLOCK + threadIdx.x) * N;
    if (i + N <= size) {
        gelu_at<N>(x + i, y + i, derivative ? derivative + i : nullptr);
    } else {
        for (; i < size; ++i) gelu_at<1>(x + i, y + i, derivative ? derivative + i : nullptr);
    }
}

// dx = dy * derivative
template <class T>
__global__ void __launch_bounds__(BLOCK) gelu_backward(
    const T* __restrict__ dy, const T* __restrict__ derivative, T* __restrict__ dx, long long size
) {
    constexpr int N = Pack<T>::N;
    long long i = (static_cast<long long>(blockIdx.x) * BLOCK + threadIdx.x) * N;
    if (i + N <= size) {
        float a[N], b[N];
        load_floats(a, dy + i, true);
        load_floats(b, derivative + i, true);
        #pragma unroll
        for (int k = 0; k < N; ++k) a[k] *= b[k];
        store_floats(dx + i, a);
    } else {
        for (; i < size; ++i) dx[i] = static_cast<T>(static_cast<float>(dy[i]) * static_cast<float>(derivative[i]));
    }
}

// dh = dy * gelu'(h), and its sums over the rows, the bias's gradient, unless dbias is null.
// Grid: tiles of columns, shares of rows.
template <class T, int N>
__global__ void __launch_bounds__(COLUMN_BLOCK) bias_gelu_backward(
    const T* __restrict__ dy, const T* __restrict__ h, T* __restrict__ dh, float* __restrict__ dbias, bool accumulate,
    float* __restrict__ partial, unsigned* __restrict__ tickets, int rows, int columns
) {
    int c = first_column<N>();
    float sum[N] = {};
    #pragma unroll 2
    for (int row = first_row(); row < rows && c < columns; row += row_stride()) {
        long long at = static_cast<long long>(row) * columns + c;
        float values[N], gradient[N];
        load_floats(values, h + at, true);
        load_floats(gradient, dy + at, true);
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            gradient[i] *= derivative_of(values[i], half_of(values[i]));
            sum[i] += gradient[i];
        }
        store_floats(dh + at, gradient);
    }
    finish_column_sums(sum, partial, tickets, dbias, accumulate, columns);
}
