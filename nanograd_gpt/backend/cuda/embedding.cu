// Embedding: y_n = weight[id_n], and dweight[id] = the sum of dy_n over the places n with that id.
//
// Both are bound by memory: the lookup reads and writes N * C elements, the gradient reads them once and writes a row of
// dweight for each id that occurs.  Atomic additions would add in another order in every run.  Instead, the places are
// sorted by (id, place), so that those of an id are a run, and a run's rows are added in that order.
//
//     sort_tiles    each block sorts TILE of the places in shared memory
//     merge_tiles   each place's rank is the sum of its ranks in all tiles
//     sum_pieces    each block adds the rows of WINDOW sorted places; of runs that end elsewhere, a part
//     sum_runs      such a run's parts, in order
#include "common.cuh"

// id << 32 | place: all differ, so that their order is the only one.  Parameters spell it out, for launch.py to read.
using Key = unsigned long long;

constexpr int TILE = 2048;  // places that a block sorts: 16 KiB of shared memory
constexpr int WINDOW = 32;  // sorted places whose rows a block adds
constexpr int AT_ONCE = 4;  // rows under way from memory, a thread
constexpr Key LAST = ~0ull;  // after all places
constexpr unsigned NO_ID = 0xffffffffu;  // in place of ids out of range, which the host cannot see without waiting

__device__ __forceinline__ unsigned id_of(Key key) { return static_cast<unsigned>(key >> 32); }
__device__ __forceinline__ long long place_of(Key key) { return static_cast<long long>(key & 0xffffffffu); }

// --- lookup, a warp a row

template <class T>
__global__ void __launch_bounds__(256) embedding(
    const T* __restrict__ weight, const long long* __restrict__ ids, T* __restrict__ y, long long N, int V, int C
) {
    long long n = static_cast<long long>(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (n >= N) return;
    int lane = threadIdx.x % WARP;
    long long id = ids[n];
    T* to = y + n * C;
    if (id < 0 || id >= V) {
        for (int c = lane; c < C; c += WARP) to[c] = static_cast<T>(__int_as_float(0x7fffffff));  // nan
        return;
    }
    const T* from = weight + id * C;
    if (C % Pack<T>::N == 0) {
        for (int c = lane * Pack<T>::N; c < C; c += WARP * Pack<T>::N) store_pack(to + c, load_pack(from + c));
    } else {
        for (int c = lane; c < C; c += WARP) to[c] = from[c];
    }
}

// --- the places in order of their ids

// Sort each tile of `size` places, a power of 2 and at most TILE, by a bitonic network (Batcher 1968).
__global__ void __launch_bounds__(1024) sort_tiles(
    const long long* __restrict__ ids, unsigned long long* __restrict__ tiles, long long N, int V, int size
) {
    __shared__ Key keys[TILE];
    long long first = static_cast<long long>(blockIdx.x) * size;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        long long place = first + i;
        long long id = place < N ? ids[place] : 0;
        Key known = id >= 0 && id < V ? static_cast<unsigned>(id) : NO_ID;
        keys[i] = place < N ? known << 32 | static_cast<Key>(place) : LAST;
    }
    __syncthreads();
    for (int run = 2; run <= size; run *= 2) {
        for (int distance = run / 2; distance > 0; distance /= 2) {
            for (int pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
                int within = pair & (distance - 1), low = 2 * (pair - within) + within, high = low + distance;
                bool ascending = (low & run) == 0;
                Key a = keys[low], b = keys[high];
                if ((a > b) == ascending) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
    }
    for (int i = threadIdx.x; i < size && first + i < N; i += blockDim.x) tiles[first + i] = keys[i];
}

// The number of sorted keys below one.
__device__ __forceinline__ int count_below(const Key* keys, int n, Key key) {
    int low = 0, high = n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (keys[middle] < key) low = middle + 1;
        else high = middle;
    }
    return low;
}

// All keys in order, from tiles of TILE that are; a thread a key.
__global__ void __launch_bounds__(256) merge_tiles(
    const unsigned long long* __restrict__ tiles, unsigned long long* __restrict__ order, long long N
) {
    long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= N) return;
    Key key = tiles[i];
    long long rank = 0;
    for (long long first = 0; first < N; first += TILE) {
        int n = N - first < TILE ? static_cast<int>(N - first) : TILE;
        rank += count_below(tiles + first, n, key);
    }
    order[rank] = key;
}

// --- sums of rows, a thread N columns

template <int N>
struct Columns {
    float x[N];
};

// N of a row's columns; if C is not a multiple, rows are not aligned, and the last columns are 0.
template <int N, class T>
__device__ __forceinline__ Columns<N> load_columns(const T* row, int column, int C) {
    Columns<N> columns;
    if (C % N == 0) {
        #pragma unroll
        for (int first = 0; first < N; first += Pack<T>::N) {
            Pack<T> pack = load_pack(row + column + first);
            #pragma unroll
            for (int k = 0; k < Pack<T>::N; ++k) columns.x[first + k] = static_cast<float>(pack.x[k]);
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; ++k) columns.x[k] = column + k < C ? static_cast<float>(row[column + k]) : 0.0f;
    }
    return columns;
}

template <int N>
__device__ __forceinline__ void store_columns(float* row, int column, int C, const Columns<N>& columns) {
    if (C % N == 0) {
        #pragma unroll
        for (int first = 0; first < N; first += Pack<float>::N) {
            Pack<float> pack;
            #pragma unroll
            for (int k = 0; k < Pack<float>::N; ++k) pack.x[k] = columns.x[first + k];
            store_pack(row + column + first, pack);
        }
    } else {
        #pragma unroll
        for (int k = 0; k < N; ++k) {
            if (column + k < C) row[column + k] = columns.x[k];
        }
    }
}

template <int N>
__device__ __forceinline__ void add(Columns<N>& sum, const Columns<N>& columns) {
    #pragma unroll
    for (int k = 0; k < N; ++k) sum.x[k] += columns.x[k];
}

template <int N>
__device__ __forceinline__ void add_to(float* row, int column, int C, const Columns<N>& columns) {
    Columns<N> sum = load_columns<N>(row, column, C);
    add(sum, columns);
    store_columns(row, column, C, sum);
}

// Add up each run in a window: into dweight's row, if the window has all of the run; else, as a part, into
// parts (windows, 2, C): [0] of a run that began in an earlier window, [1] of one that begins here.
template <class T>
__global__ void __launch_bounds__(256) sum_pieces(
    const T* __restrict__ dy, const unsigned long long* __restrict__ order, float* __restrict__ dweight,
    float* __restrict__ parts, long long N, int V, int C
) {
    constexpr int COLUMNS = Pack<T>::N;
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * COLUMNS;
    if (column >= C) return;
    long long window = blockIdx.x, begin = window * WINDOW;
    int n = N - begin < WINDOW ? static_cast<int>(N - begin) : WINDOW;
    const Key* keys = order + begin;
    bool began_before = begin > 0 && id_of(keys[-1]) == id_of(keys[0]);
    bool goes_on = begin + n < N && id_of(keys[n]) == id_of(keys[n - 1]);
    Columns<COLUMNS> sum = {};
    for (int first = 0; first < n; first += AT_ONCE) {
        Columns<COLUMNS> rows[AT_ONCE];
        #pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (first + k < n) rows[k] = load_columns<COLUMNS>(dy + place_of(keys[first + k]) * C, column, C);
        }
        #pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            int i = first + k;
            if (i >= n) break;
            add(sum, rows[k]);
            unsigned id = id_of(keys[i]);
            bool last = i == n - 1;
            if (!last && id_of(keys[i + 1]) == id) continue;
            if (began_before && id == id_of(keys[0])) {
                store_columns(parts + 2 * window * C, column, C, sum);
            } else if (goes_on && last) {
                store_columns(parts + (2 * window + 1) * C, column, C, sum);
            } else if (id < static_cast<unsigned>(V)) {
                add_to(dweight + static_cast<long long>(id) * C, column, C, sum);
            }
            sum = {};
        }
    }
}

// The number of windows after this one whose first place has the id.
__device__ __forceinline__ long long count_windows(const Key* order, long long N, long long window, unsigned id) {
    long long low = window, high = (N - 1) / WINDOW;  // the last window that has it is among low .. high
    while (low < high) {
        long long middle = (low + high + 1) / 2;
        if (id_of(order[middle * WINDOW]) == id) low = middle;
        else high = middle - 1;
    }
    return low - window;
}

// Add the parts of the run that begins in a window and goes on in later ones to dweight's row.
__global__ void __launch_bounds__(256) sum_runs(
    const unsigned long long* __restrict__ order, const float* __restrict__ parts, float* __restrict__ dweight,
    long long N, int V, int C
) {
    constexpr int COLUMNS = Pack<float>::N;
    int column = (blockIdx.y * blockDim.x + threadIdx.x) * COLUMNS;
    long long window = blockIdx.x, begin = window * WINDOW, end = begin + WINDOW;
    if (column >= C || end >= N) return;
    unsigned id = id_of(order[end - 1]);
    bool goes_on = id_of(order[end]) == id;
    bool began_before = begin > 0 && id_of(order[begin - 1]) == id;
    if (!goes_on || began_before || id >= static_cast<unsigned>(V)) return;
    Columns<COLUMNS> sum = load_columns<COLUMNS>(parts + (2 * window + 1) * C, column, C);
    long long more = count_windows(order, N, window, id);
    #pragma unroll 4
    for (long long k = 1; k <= more; ++k) add(sum, load_columns<COLUMNS>(parts + 2 * (window + k) * C, column, C));
    add_to(dweight + static_cast<long long>(id) * C, column, C, sum);
}
