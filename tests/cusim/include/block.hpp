// The calls by which a kernel, compiled for the CPU, reaches the simulator: runtime/block.cpp answers them.
//
// A CUDA thread is a fiber.  One runs until it waits for others, then the next one does: so a block's threads never run
// at the same time, and the order in which they do is the simulator's to choose.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

// The last parameter of CUDA's words: by these defaults, the line of the .cu file that calls.
#define CUSIM_CALLER cusim::Site site = {__builtin_FILE(), __builtin_LINE()}

struct uint3 {
  unsigned x, y, z;
};

namespace cusim {

struct Site {
  const char* file;
  int line;
};
constexpr unsigned WARP = 32;

// The built-in variables of the thread that runs; set whenever another one goes on.
struct Here {
  uint3 thread, block, block_size, grid_size;
  unsigned lane;
};
extern Here here;

// Ends the launch with a message.
[[noreturn]] void fail(Site site, const char* what);

// __syncthreads: of the predicates of all threads, whether one holds, whether all do, and how many.
struct Votes {
  int any, all, count;
};
Votes barrier(Site site, int predicate);

// Every lane of the mask gives a value and gets those of all 32; lanes outside of the mask give ~0.
// The last lane to come calls `together` on all values, before any other lane goes on.
const uint64_t* exchange(Site site, uint32_t mask, uint64_t value, void (*together)(const uint64_t*) = nullptr);

// Memory of the block, filled with 0xFF (nan) when it is first asked for, with margins that show a write outside.
// Each declaration has its own `key`.
void* shared_memory(Site site, const void* key, size_t bytes, bool of_doubles);
void* dynamic_shared_memory();

// cp.async: until the wait, its 16 bytes are 0xFF.  No source: zeros.
void start_copy(Site site, void* to, const void* from);
void commit_copies();
void wait_for_copies(int groups_under_way);

// What a kernel has multiplied, where it says so: by fmaf, which counting.cpp counts, and by tensor cores.
struct Multiplications {
  uint64_t fused, tensor;  // calls of fmaf; products of a warp, 16 x 8 x 16
};
extern Multiplications multiplications;

// __threadfence: this thread's atomics from here on order its other accesses too.
void fence();
bool has_fenced();

// "__shared__ T x[N];" becomes "auto& x = cusim::shared<T [N], 0>();"; two declarations on a line differ in `place`.
template <class T, int place>
T& shared(CUSIM_CALLER) {
  static const char key = 0;
  return *static_cast<T*>(shared_memory(site, &key, sizeof(T), sizeof(std::remove_all_extents_t<T>) == 8));
}

}  // namespace cusim
