// CUDA's words for kernels that a C++ compiler compiles: qualifiers, built-in variables, warp primitives, atomics.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "block.hpp"
#include "math_words.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__ static const
#define __grid_constant__
#define warpSize 32

#define threadIdx (cusim::here.thread)
#define blockIdx (cusim::here.block)
#define blockDim (cusim::here.block_size)
#define gridDim (cusim::here.grid_size)

// Pairs and fours, aligned as in CUDA: an access that is not aligned ends the launch.

#define CUSIM_VECTORS(T, name)                                 \
  struct alignas(2 * sizeof(T)) name##2 {                      \
    T x, y;                                                    \
  };                                                           \
  struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) name##4 { \
    T x, y, z, w;                                              \
  };                                                           \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

CUSIM_VECTORS(float, float)
CUSIM_VECTORS(double, double)
CUSIM_VECTORS(int, int)
CUSIM_VECTORS(unsigned, uint)
CUSIM_VECTORS(unsigned short, ushort)

// Barriers.

inline void __syncthreads(CUSIM_CALLER) {
  cusim::barrier(site, 0);
}
inline int __syncthreads_or(int predicate, CUSIM_CALLER) {
  return cusim::barrier(site, predicate).any;
}
inline int __syncthreads_and(int predicate, CUSIM_CALLER) {
  return cusim::barrier(site, predicate).all;
}
inline int __syncthreads_count(int predicate, CUSIM_CALLER) {
  return cusim::barrier(site, predicate).count;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUSIM_CALLER) {
  cusim::exchange(site, mask, 0);
}
inline void __threadfence() {
  cusim::fence();
}

// Warp primitives.  `width` divides the warp into groups that shuffle apart, as in CUDA.

namespace cusim {

template <class T>
T from_lane(Site site, uint32_t mask, T value, unsigned source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  const uint64_t* all = exchange(site, mask, word);
  if (!(mask >> source & 1)) fail(site, "a shuffle reads from a lane that its mask does not name");
  T result;
  std::memcpy(&result, &all[source], sizeof(T));
  return result;
}

}  // namespace cusim

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUSIM_CALLER) {
  unsigned first = cusim::here.lane & ~(width - 1u);
  return cusim::from_lane(site, mask, value, first | (source & (width - 1u)));
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUSIM_CALLER) {
  unsigned lane = cusim::here.lane, source = lane ^ bits;
  bool beyond = (source & ~(width - 1u)) > (lane & ~(width - 1u));
  return cusim::from_lane(site, mask, value, beyond ? lane : source);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, CUSIM_CALLER) {
  unsigned lane = cusim::here.lane;
  bool beyond = (lane & (width - 1u)) + by >= unsigned(width);
  return cusim::from_lane(site, mask, value, beyond ? lane : lane + by);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, CUSIM_CALLER) {
  unsigned lane = cusim::here.lane;
  bool beyond = (lane & (width - 1u)) < by;
  return cusim::from_lane(site, mask, value, beyond ? lane : lane - by);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUSIM_CALLER) {
  const uint64_t* all = cusim::exchange(site, mask, predicate != 0);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < cusim::WARP; ++lane) {
    if ((mask >> lane & 1) && all[lane] == 1) votes |= 1u << lane;
  }
  return votes;
}
inline int __any_sync(unsigned mask, int predicate, CUSIM_CALLER) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUSIM_CALLER) {
  return __ballot_sync(mask, predicate, site) == mask;
}

// Atomics.  Relaxed, as CUDA's: only a fence before them makes them order other accesses, which ThreadSanitizer then
// takes into account.  Sums of floats depend on the threads' order; a kernel that has one does not compile.

namespace cusim {

template <class T, class F>
T atomically(T* p, F next) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  if (has_fenced()) {
    while (!__atomic_compare_exchange_n(p, &old, next(old), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    }
  } else {
    while (!__atomic_compare_exchange_n(p, &old, next(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
  }
  return old;
}

}  // namespace cusim

template <class T>
T atomicAdd(T* p, T v) {
  static_assert(std::is_integral<T>::value, "a float sum by atomics depends on the order of threads: two runs differ");
  return cusim::atomically(p, [v](T old) { return T(old + v); });
}
template <class T>
T atomicMax(T* p, T v) {
  return cusim::atomically(p, [v](T old) { return v > old ? v : old; });
}
template <class T>
T atomicMin(T* p, T v) {
  return cusim::atomically(p, [v](T old) { return v < old ? v : old; });
}
template <class T>
T atomicOr(T* p, T v) {
  return cusim::atomically(p, [v](T old) { return T(old | v); });
}
template <class T>
T atomicAnd(T* p, T v) {
  return cusim::atomically(p, [v](T old) { return T(old & v); });
}
template <class T>
T atomicExch(T* p, T v) {
  return cusim::atomically(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, T expected, T v) {
  return cusim::atomically(p, [=](T old) { return old == expected ? v : old; });
}
