// The calls of a kernel: barriers, exchanges within a warp, shared memory, asynchronous copies.
#include <cstring>
#include <sys/mman.h>

#include "counting.hpp"
#include "state.hpp"

namespace cusim {

Here here;
Launch* launch = nullptr;
Multiplications multiplications;

void wait() {
  Launch& l = *launch;
  tsan::switch_to(l.tsan_scheduler);
  l.current->fiber.switch_to(l.scheduler);
}

std::string at(Site site) {
  return std::string(site.file) + " line " + std::to_string(site.line);
}

bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

[[noreturn]] static void fail_with(const std::string& message) {
  launch->error = message;
  for (;;) wait();  // the scheduler ends the launch
}

void fail(Site site, const char* what) {
  fail_with(at(site) + ": " + what);
}

// --- barriers

Votes barrier(Site site, int predicate) {
  Launch& l = *launch;
  Thread& me = *l.current;
  me.state = State::at_barrier;
  me.site = site;
  me.predicate = predicate != 0;
  char* address = &l.barriers[l.barrier_count & 1];
  tsan::release(address);
  wait();
  tsan::acquire(address);
  return l.votes;
}

// --- exchanges

static Thread* lane_of(Thread& me, unsigned lane) {
  unsigned number = (me.number & ~(WARP - 1)) + lane;
  return number < launch->threads_in_block ? &launch->threads[number] : nullptr;
}

std::string missing_lane(const Thread& waiting, unsigned lane) {
  bool in_block = (waiting.number & ~(WARP - 1)) + lane < launch->threads_in_block;
  std::string what = in_block ? ", which has returned" : ", which the block does not have";
  return at(waiting.site) + ": the mask of a warp primitive names lane " + std::to_string(lane) + what;
}

static bool everyone_is_there(Thread& me) {
  for (unsigned lane = 0; lane < WARP; ++lane) {
    if (!(me.mask >> lane & 1)) continue;
    Thread* other = lane_of(me, lane);
    if (!other || other->state == State::done) fail_with(missing_lane(me, lane));
    if (other->mask != me.mask) return false;
    if (!same(other->site, me.site)) fail_with("divergent warp primitives: " + at(me.site) + " and " + at(other->site));
  }
  return true;
}

static void hand_out(Thread& me, void (*together)(const uint64_t*)) {
  uint64_t all[WARP];
  uint32_t parities = 0;
  Thread* lanes[WARP];
  for (unsigned lane = 0; lane < WARP; ++lane) {
    lanes[lane] = me.mask >> lane & 1 ? lane_of(me, lane) : nullptr;
    all[lane] = lanes[lane] ? lanes[lane]->given : ~uint64_t(0);
    if (lanes[lane]) parities |= (lanes[lane]->exchanges & 1) << lane;
  }
  if (together) together(all);
  for (Thread* lane : lanes) {
    if (!lane) continue;
    for (unsigned i = 0; i < WARP; ++i) lane->received[i] = all[i];
    lane->state = State::ready;
    lane->mask = 0;
    lane->parities = parities;
  }
}

const uint64_t* exchange(Site site, uint32_t mask, uint64_t value, void (*together)(const uint64_t*)) {
  Thread& me = *launch->current;
  if (!(mask >> here.lane & 1)) fail(site, "a lane calls a warp primitive whose mask does not name it");
  me.given = value;
  me.mask = mask;
  me.site = site;
  tsan::release(&me.came[me.exchanges & 1]);
  if (everyone_is_there(me)) {
    hand_out(me, together);
  } else {
    me.state = State::in_exchange;
    wait();
  }
  ++me.exchanges;
  if (tsan::ON) {
    for (unsigned lane = 0; lane < WARP; ++lane) {
      if (mask >> lane & 1) tsan::acquire(&lane_of(me, lane)->came[me.parities >> lane & 1]);
    }
  }
  return me.received;
}

// --- shared memory

constexpr size_t MARGIN = 64, ALIGNMENT = 256;  // the largest that a kernel declares
constexpr size_t ARENA = tsan::ON ? 256 << 20 : 1 << 20;

bool Arena::make() {
  void* got = mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  begin = got == MAP_FAILED ? nullptr : static_cast<char*>(got);
  return begin;
}

char* Arena::take(size_t bytes) {
  char* taken = begin + used;
  if (bytes > ARENA - used) return nullptr;
  used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return taken;
}

Arena::~Arena() {
  if (begin) munmap(begin, ARENA);
}

// memory.py says why: FFF5 and FFB5 repeated.
char Shared::canary_at(size_t i) const {
  if (i & 1) return char(0xFF);
  return of_doubles ? char(0xF5) : char(0xB5);
}

Shared::Shared(size_t n, Site where, bool doubles) : bytes(n), site(where), of_doubles(doubles) {
  char* room = launch->arena.take(2 * ALIGNMENT + bytes);
  if (!room) fail(where, "more shared memory than any GPU has");
  data = room + ALIGNMENT;
  for (size_t i = 0; i < MARGIN; ++i) {
    data[i - MARGIN] = canary_at(i);
    data[bytes + i] = canary_at(i);
  }
  for (size_t i = 0; i < bytes; ++i) data[i] = char(0xFF);
}

bool Shared::written_outside() const {
  for (size_t i = 0; i < MARGIN; ++i) {
    if (data[i - MARGIN] != canary_at(i) || data[bytes + i] != canary_at(i)) return true;
  }
  return false;
}

void* shared_memory(Site site, const void* key, size_t bytes, bool of_doubles) {
  auto found = launch->shared.find(key);
  if (found == launch->shared.end()) found = launch->shared.emplace(key, Shared(bytes, site, of_doubles)).first;
  return found->second.data;
}

void* dynamic_shared_memory() {
  return launch->shared.at(nullptr).data;
}

// --- asynchronous copies

void start_copy(Site site, void* to, const void* from) {
  uintptr_t addresses = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  if (addresses & 15) fail(site, "cp.async: an address is not a multiple of 16 bytes");
  tsan::Called called(__builtin_return_address(0));
  if (from) counting::load(from, 16);
  std::memset(to, 0xFF, 16);
  launch->current->copies.push_back({to, from, launch->current->group});
}

void commit_copies() {
  ++launch->current->group;
}

void wait_for_copies(int groups_under_way) {
  tsan::Called called(__builtin_return_address(0));
  Thread& me = *launch->current;
  std::vector<Copy> remaining;
  for (const Copy& copy : me.copies) {
    if (copy.group >= me.group - groups_under_way) {
      remaining.push_back(copy);
    } else if (copy.from) {
      std::memcpy(copy.to, copy.from, 16);
    } else {
      std::memset(copy.to, 0, 16);
    }
  }
  me.copies = std::move(remaining);
}

void fence() {
  launch->current->fenced = true;
}

bool has_fenced() {
  return launch->current->fenced;
}

}  // namespace cusim
