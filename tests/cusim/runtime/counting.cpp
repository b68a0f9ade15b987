// Counts the bytes that a kernel loads from and stores to each array, and its multiplications.
//
// The kernel is compiled with -fsanitize=thread, so that it calls a function before each access to memory that others
// may see; here are those functions, in place of ThreadSanitizer's.  What a kernel keeps in registers is not counted.
#include "counting.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

#include "../include/block.hpp"

namespace cusim {

struct Region {
  uintptr_t begin, end;
  uint64_t loaded, stored;
};
static std::vector<Region> regions;

static Region* region_of(const void* address) {
  uintptr_t at = reinterpret_cast<uintptr_t>(address);
  for (Region& region : regions) {
    if (region.begin <= at && at < region.end) return &region;
  }
  return nullptr;  // shared memory, or a thread's own
}

static void store(const void* to, size_t bytes) {
  if (Region* region = region_of(to)) region->stored += bytes;
}

void counting::load(const void* from, size_t bytes) {
  if (Region* region = region_of(from)) region->loaded += bytes;
}

}  // namespace cusim

using cusim::store;
using cusim::counting::load;

extern "C" {

#define CUSIM_ACCESS(bytes)                                                     \
  void __tsan_read##bytes(void* address) { load(address, bytes); }              \
  void __tsan_write##bytes(void* address) { store(address, bytes); }            \
  void __tsan_unaligned_read##bytes(void* address) { load(address, bytes); }    \
  void __tsan_unaligned_write##bytes(void* address) { store(address, bytes); }

CUSIM_ACCESS(1)
CUSIM_ACCESS(2)
CUSIM_ACCESS(4)
CUSIM_ACCESS(8)
CUSIM_ACCESS(16)

void __tsan_read_range(void* address, size_t bytes) { load(address, bytes); }
void __tsan_write_range(void* address, size_t bytes) { store(address, bytes); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void) {}
void __tsan_init(void) {}

// cuda_words.hpp's atomics.
#define CUSIM_ATOMIC(bits)                                                                                    \
  uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* p, int) {                                   \
    load(p, bits / 8);                                                                                        \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                              \
  }                                                                                                           \
  int __tsan_atomic##bits##_compare_exchange_strong(uint##bits##_t* p, uint##bits##_t* expected,              \
                                                    uint##bits##_t desired, int, int) {                       \
    store(p, bits / 8);                                                                                       \
    return __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
  }

CUSIM_ATOMIC(32)
CUSIM_ATOMIC(64)

// Counts from 0 in these arrays, each a begin and an end.
__attribute__((visibility("default"))) void cusim_count(const uintptr_t* bounds, size_t arrays) {
  cusim::regions.clear();
  for (size_t i = 0; i < arrays; ++i) cusim::regions.push_back({bounds[2 * i], bounds[2 * i + 1], 0, 0});
  cusim::multiplications = {};
}

// The bytes loaded and stored of each array, then the calls of fmaf and the warps' products.
__attribute__((visibility("default"))) void cusim_counted(uint64_t* counts) {
  for (const cusim::Region& region : cusim::regions) {
    *counts++ = region.loaded;
    *counts++ = region.stored;
  }
  *counts++ = cusim::multiplications.fused;
  *counts++ = cusim::multiplications.tensor;
}

}  // extern "C"
