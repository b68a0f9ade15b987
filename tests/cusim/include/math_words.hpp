// CUDA's functions of numbers, by the C++ library.  The fast ones, such as __expf, are exact to their type here.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "block.hpp"

#undef INFINITY  // NVRTC has neither: __int_as_float(0x7f800000)
#undef NAN

using std::ceil;
using std::cos;
using std::erf;
using std::exp;
using std::exp2;
using std::fabs;
using std::floor;
using std::fma;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::log;
using std::log2;
using std::pow;
using std::sin;
using std::sqrt;
using std::tanh;

template <class A, class B>
auto max(A a, B b) -> std::common_type_t<A, B> {
  return a > b ? a : b;
}
template <class A, class B>
auto min(A a, B b) -> std::common_type_t<A, B> {
  return a < b ? a : b;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

inline float __expf(float x) { return std::exp(x); }
inline float __exp2f(float x) { return std::exp2(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __tanhf(float x) { return std::tanh(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
#ifdef CUSIM_COUNT
namespace cusim {
inline float counted_fmaf(float x, float y, float z) {
  ++multiplications.fused;
  return ::fmaf(x, y, z);
}
}  // namespace cusim
#define fmaf(x, y, z) cusim::counted_fmaf(x, y, z)
#endif

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

namespace cusim {

template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bytes");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace cusim

inline float __int_as_float(int x) { return cusim::same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return cusim::same_bits<float>(x); }
inline int __float_as_int(float x) { return cusim::same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return cusim::same_bits<unsigned>(x); }
inline double __longlong_as_double(long long x) { return cusim::same_bits<double>(x); }
inline long long __double_as_longlong(double x) { return cusim::same_bits<long long>(x); }

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}
