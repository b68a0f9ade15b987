// Sums over the rows of a matrix: the gradient of a linear layer's bias.
//
//     total[c] = sum of x[row][c] over the rows
//
// Bound by memory: every element is read once.  A block adds the rows of its share in a tile of columns; the last block
// of a tile adds what all of the tile's blocks found, in their order.
#include "columns.cuh"

template <class T, int N>
__global__ void __launch_bounds__(COLUMN_BLOCK) column_sums(
    const T* __restrict__ x, float* __restrict__ total, bool accumulate, float* __restrict__ partial,
    unsigned* __restrict__ tickets, int rows, int columns
) {
    int c = first_column<N>();
    float sum[N] = {};
    #pragma unroll 4
    for (int row = first_row(); row < rows; row += row_stride()) {
        float values[N];
        load_floats(values, x + static_cast<long long>(row) * columns + c, c < columns);
        #pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += values[i];
    }
    finish_column_sums(sum, partial, tickets, total, accumulate, columns);
}
