// The state of one launch: the block that runs, its threads, its shared memory.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "../include/block.hpp"
#include "fibers.hpp"
#include "tsan.hpp"

namespace cusim {

enum class State : uint8_t { ready, at_barrier, in_exchange, done };

struct Copy {
  void* to;
  const void* from;  // null: zeros
  int group;
};

struct Thread {
  Fiber fiber;
  State state = State::ready;
  uint3 index{};
  unsigned number = 0;  // in the block
  Site site{};          // where it waits
  int predicate = 0;

  uint32_t mask = 0;  // of the exchange it waits in; 0: of none
  uint64_t given = 0;
  uint64_t received[WARP];

  std::vector<Copy> copies;  // under way
  int group = 0;             // of the copies that it starts next
  bool fenced = false;

  // For ThreadSanitizer: a lane that leaves an exchange relies on what each other lane did before it came.  Two
  // addresses in turn, since a lane may come to its next exchange before another has left this one.
  void* tsan_fiber = nullptr;
  char came[2];
  unsigned exchanges = 0;
  uint32_t parities = 0;  // of each lane's `came` in the exchange that ended last
};

// A shared variable; it lies between two margins.
struct Shared {
  char* data;
  size_t bytes;
  Site site;
  bool of_doubles;

  Shared(size_t bytes, Site site, bool of_doubles);  // of the block that runs
  bool written_outside() const;
  char canary_at(size_t i) const;
};

// Memory for the shared variables.  Not from `new`, which for ThreadSanitizer would be an access by the thread that
// happens to come to a variable first.
struct Arena {
  char* begin = nullptr;
  size_t used = 0;

  bool make();
  char* take(size_t bytes);  // null: it is full
  ~Arena();
};

struct Launch {
  uint3 grid{}, block_size{};
  size_t dynamic_bytes = 0;
  unsigned order = 0;
  void (*call)(void* const*) = nullptr;
  void* const* arguments = nullptr;

  unsigned threads_in_block = 0;
  std::vector<Thread> threads;
  Thread* current = nullptr;
  Fiber scheduler;
  Votes votes{};
  std::map<const void*, Shared> shared;  // the dynamic one's key is null
  Arena arena;
  std::string error;

  void* tsan_scheduler = nullptr;
  std::vector<void*> tsan_fibers;  // of blocks before
  char launched = 0, finished = 0;
  char barriers[2];  // in turn, since a thread may come to the next one before another has left this one
  unsigned barrier_count = 0;
};

extern Launch* launch;  // the one that runs

// Back to the scheduler, until it is this thread's turn.
void wait();

std::string at(Site site);
bool same(Site a, Site b);
std::string missing_lane(const Thread& waiting, unsigned lane);

}  // namespace cusim
