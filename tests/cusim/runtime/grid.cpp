// Runs a grid, block after block, each block's threads in the order asked for.
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sys/mman.h>
#include <sys/time.h>

#include "../include/launch.hpp"
#include "state.hpp"

namespace cusim {

constexpr size_t STACK = tsan::ON ? 512 << 10 : 64 << 10;
constexpr size_t PAGE = 64 << 10;  // at least a page of any system
constexpr size_t MOST_STATIC = 48 << 10, MOST_SHARED = 227 << 10;

// --- orders: 0 as numbered, 1 reversed, others shuffled.  A kernel whose result depends on it has a race.

template <class T>
static void rearrange(std::vector<T>& items, unsigned order, std::mt19937& random) {
  size_t n = items.size();
  if (order == 1) {
    for (size_t i = 0; i < n / 2; ++i) std::swap(items[i], items[n - 1 - i]);
  }
  if (order > 1) {
    for (size_t i = n; i > 1; --i) std::swap(items[i - 1], items[random() % i]);  // the same in every C++ library
  }
}

template <class T>
static std::vector<T> numbered(T n) {
  std::vector<T> items(n);
  for (T i = 0; i < n; ++i) items[i] = i;
  return items;
}

// --- stacks

// Each with a page below it that no one may touch, so that an overflow is found.  ThreadSanitizer gets new ones for
// each block, or it would take what two blocks put on one stack for a race.  Else they are those of one launch: a stack
// and its page are two mappings, of which a process may have 65,530, and every library here would keep 2,048.
static char* our_stacks = nullptr;
static size_t stacks_there = 0;

static char* stacks(size_t n) {
  if (tsan::ON || stacks_there < n) {
    size_t bytes = n * (STACK + PAGE);
    void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return nullptr;
    our_stacks = static_cast<char*>(got);
    stacks_there = n;
    for (size_t i = 0; i < n && !tsan::ON; ++i) mprotect(our_stacks + i * (STACK + PAGE), PAGE, PROT_NONE);
  }
  return our_stacks;
}

static void free_stacks() {
  if (our_stacks) munmap(our_stacks, stacks_there * (STACK + PAGE));
  our_stacks = nullptr;
  stacks_there = 0;
}

// --- one block

static void thread_main() {
  Launch& l = *launch;
  tsan::acquire(&l.launched);
  l.call(l.arguments);
  tsan::release(&l.finished);
  l.current->state = State::done;
  wait();
  std::abort();  // a thread that is done is not run again
}

static bool make_threads(Launch& l) {
  char* stack = stacks(l.threads_in_block);
  if (!stack) return false;
  l.threads.assign(l.threads_in_block, Thread());
  for (unsigned i = 0; i < l.threads_in_block; ++i) {
    Thread& t = l.threads[i];
    t.number = i;
    t.index = {i % l.block_size.x, i / l.block_size.x % l.block_size.y, i / l.block_size.x / l.block_size.y};
    t.fiber.make(stack + i * (STACK + PAGE) + PAGE, STACK, thread_main);
    t.tsan_fiber = tsan::new_fiber();
  }
  return true;
}

static void run(Launch& l, Thread& t) {
  l.current = &t;
  here.thread = t.index;
  here.lane = t.number % WARP;
  tsan::switch_to(t.tsan_fiber);
  l.scheduler.switch_to(t.fiber);
}

// All that have not returned wait at a barrier: lets them go on.
static std::string open_barrier(Launch& l) {
  const Thread* first = nullptr;
  unsigned returned = 0;
  l.votes = {0, 1, 0};
  for (Thread& t : l.threads) {
    if (t.state == State::done) {
      ++returned;
      continue;
    }
    if (!first) first = &t;
    if (!same(first->site, t.site)) return "divergent __syncthreads: " + at(first->site) + " and " + at(t.site);
    l.votes.any |= t.predicate;
    l.votes.all &= t.predicate;
    l.votes.count += t.predicate;
  }
  if (returned) return at(first->site) + ": __syncthreads, but " + std::to_string(returned) + " threads have returned";
  ++l.barrier_count;
  for (Thread& t : l.threads) t.state = State::ready;
  return "";
}

static std::string stuck(Launch& l) {
  for (Thread& t : l.threads) {
    if (t.state != State::in_exchange) continue;
    for (unsigned lane = 0; lane < WARP; ++lane) {
      unsigned number = (t.number & ~(WARP - 1)) + lane;
      if ((t.mask >> lane & 1) && l.threads[number].state == State::done) return missing_lane(t, lane);
    }
    return at(t.site) + ": a warp primitive waits for lanes of its mask that never come to it";
  }
  return "no thread can go on";
}

static std::string check_shared(Launch& l) {
  size_t bytes = 0;
  for (auto& [key, variable] : l.shared) {
    if (key) bytes += variable.bytes;
    if (!variable.written_outside()) continue;
    if (!key) return "writes outside of dynamic shared memory, " + std::to_string(variable.bytes) + " bytes";
    return "writes outside of the shared variable at " + at(variable.site);
  }
  if (bytes > MOST_STATIC) return std::to_string(bytes) + " bytes of static shared memory, over 48 KiB";
  bytes += l.dynamic_bytes;
  if (bytes > MOST_SHARED) return std::to_string(bytes) + " bytes of static and dynamic shared memory, over 227 KiB";
  return "";
}

// A new fiber may get the number of one that was dropped, and ThreadSanitizer then takes the two for one thread.
static void keep_fibers(Launch& l) {
  if (!tsan::ON) return;
  constexpr size_t MOST = 6000;  // ThreadSanitizer has numbers for 8,000
  for (Thread& t : l.threads) l.tsan_fibers.push_back(t.tsan_fiber);
  if (l.tsan_fibers.size() < MOST) return;
  for (void* fiber : l.tsan_fibers) tsan::drop_fiber(fiber);
  l.tsan_fibers.clear();
}

static std::string run_block(Launch& l, std::vector<unsigned>& turns, std::mt19937& random) {
  l.shared.clear();
  if (!tsan::ON) l.arena.used = 0;  // else no address is used twice: two blocks' accesses would be taken for a race
  l.shared.emplace(nullptr, Shared(l.dynamic_bytes, Site{}, false));
  if (!make_threads(l)) return "no memory for the threads' stacks";
  for (;;) {
    bool progress = false;
    for (unsigned i : turns) {
      if (l.threads[i].state != State::ready) continue;
      run(l, l.threads[i]);
      progress = true;
      if (!l.error.empty()) return l.error;
    }
    unsigned done = 0, waiting = 0;
    for (Thread& t : l.threads) {
      done += t.state == State::done;
      waiting += t.state == State::at_barrier;
    }
    if (done == l.threads_in_block) break;
    if (done + waiting == l.threads_in_block) {
      std::string error = open_barrier(l);
      if (!error.empty()) return error;
      rearrange(turns, l.order > 1 ? l.order : 0, random);
    } else if (!progress) {
      return stuck(l);
    }
  }
  keep_fibers(l);
  return check_shared(l);
}

// --- faults: an access to memory that is not there, or a loop without end, ends the launch instead of the process

static sigjmp_buf before_fault;
static void* fault_address;  // of the instruction; null: of none
static const char* fault;

#if defined(__x86_64__)
static void* program_counter(void* context) {
  return reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
}
#else
static void* program_counter(void*) {
  return nullptr;
}
#endif

static void on_fault(int signal, siginfo_t* info, void* context) {
  fault_address = program_counter(context);
  fault = "an access outside of all memory";
  if (signal == SIGBUS || info->si_code == SI_KERNEL) fault = "an access that is not aligned, or far from all arrays";
  if (signal == SIGVTALRM) fault = "no end in the time that a launch may take";
  siglongjmp(before_fault, 1);
}

class FaultHandler {  // in place while it lives
 public:
  explicit FaultHandler(int seconds) {
    static char stack[64 << 10];  // a handler's own: the fault may be that a fiber's is full
    stack_t ours{};
    ours.ss_sp = stack;
    ours.ss_size = sizeof stack;
    sigaltstack(&ours, &old_stack_);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &action, &old_[i]);
    set_timer(seconds);
  }
  ~FaultHandler() {
    set_timer(0);
    for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &old_[i], nullptr);
    sigaltstack(&old_stack_, nullptr);
  }

 private:
  static constexpr int SIGNALS[3] = {SIGSEGV, SIGBUS, SIGVTALRM};

  static void set_timer(int seconds) {
    itimerval timer{};
    timer.it_value.tv_sec = seconds;
    setitimer(ITIMER_VIRTUAL, &timer, nullptr);
  }

  stack_t old_stack_;
  struct sigaction old_[3];
};

// --- the grid

static std::string run_blocks(Launch& l) {
  std::mt19937 random(l.order);
  std::vector<size_t> blocks = numbered(size_t(l.grid.x) * l.grid.y * l.grid.z);
  std::vector<unsigned> turns = numbered(l.threads_in_block);
  rearrange(blocks, l.order, random);
  rearrange(turns, l.order, random);
  l.tsan_scheduler = tsan::current_fiber();
  tsan::release(&l.launched);
  here.block_size = l.block_size;
  here.grid_size = l.grid;
  for (size_t i : blocks) {
    here.block = {unsigned(i % l.grid.x), unsigned(i / l.grid.x % l.grid.y), unsigned(i / l.grid.x / l.grid.y)};
    std::string error = run_block(l, turns, random);
    if (!error.empty()) return error;
  }
  tsan::acquire(&l.finished);
  return "";
}

static std::string describe(uint3 i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

static std::string run_guarded(Launch& l, int seconds) {
  if (tsan::ON) return run_blocks(l);
  FaultHandler handler(seconds);
  std::string error;
  if (sigsetjmp(before_fault, 1) == 0) {
    error = run_blocks(l);
  } else {
    error = std::string(fault) + ", thread " + describe(here.thread) + " of block " + describe(here.block);
  }
  free_stacks();
  return error;
}

}  // namespace cusim

#define CUSIM_FOR_PYTHON extern "C" __attribute__((visibility("default")))

CUSIM_FOR_PYTHON const cusim::Kernel* cusim_kernel(int i) {
  return &cusim_kernels[i];
}

// `seconds` of the processor's time are the most that it may take.  Returns whether the launch failed; then `message`
// says why, and `fault` is an instruction's address, or null.
CUSIM_FOR_PYTHON int cusim_launch(int kernel, const unsigned* grid, const unsigned* block, size_t dynamic_bytes,
                                  unsigned order, int seconds, void* const* arguments, char* message, size_t room,
                                  void** fault) {
  cusim::Launch launch;
  launch.grid = {grid[0], grid[1], grid[2]};
  launch.block_size = {block[0], block[1], block[2]};
  launch.threads_in_block = block[0] * block[1] * block[2];
  launch.dynamic_bytes = dynamic_bytes;
  launch.order = order;
  launch.call = cusim_kernels[kernel].call;
  launch.arguments = arguments;
  cusim::launch = &launch;
  cusim::fault_address = nullptr;
  std::string error = launch.arena.make() ? cusim::run_guarded(launch, seconds) : "no memory for shared variables";
  cusim::launch = nullptr;
  *fault = cusim::fault_address;
  std::snprintf(message, room, "%s", error.c_str());
  return !error.empty();
}
