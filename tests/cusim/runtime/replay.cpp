// A program that runs one launch from a file, which races.py wrote: ThreadSanitizer wants a program of its own.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <vector>

extern "C" int cusim_launch(int kernel, const unsigned* grid, const unsigned* block, size_t dynamic_bytes,
                            unsigned order, int seconds, void* const* arguments, char* message, size_t room,
                            void** fault);

// The runtime's own objects: made by one fiber and deleted by another, which ThreadSanitizer's allocator would take for
// a race.  Nothing is given back, for the program soon ends.
void* operator new(size_t bytes) {
  constexpr size_t ROOM = size_t(1) << 32;
  constexpr int KIND = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  static char* next = static_cast<char*>(mmap(nullptr, ROOM, PROT_READ | PROT_WRITE, KIND, -1, 0));
  static char* end = next + ROOM;
  bytes = (bytes + 15) / 16 * 16;
  if (bytes > size_t(end - next)) std::abort();
  next += bytes;
  return next - bytes;
}
void operator delete(void*) noexcept {}
void operator delete(void*, size_t) noexcept {}

static void read(FILE* file, void* to, size_t bytes) {
  if (std::fread(to, 1, bytes, file) != bytes) {
    std::fprintf(stderr, "the launch's file is cut off\n");
    std::exit(2);
  }
}

static uint64_t number(FILE* file) {
  uint64_t n;
  read(file, &n, sizeof n);
  return n;
}

int main(int, char** argv) {
  FILE* file = std::fopen(argv[1], "rb");
  if (!file) return 2;
  int kernel = int(number(file));
  unsigned sizes[6];
  for (unsigned& size : sizes) size = unsigned(number(file));
  size_t dynamic_bytes = number(file);
  unsigned order = unsigned(number(file));

  std::vector<char*> regions(number(file));
  for (char*& region : regions) {
    size_t bytes = number(file);
    size_t past_alignment = number(file);
    region = static_cast<char*>(std::aligned_alloc(512, (past_alignment + bytes + 511) / 512 * 512)) + past_alignment;
    read(file, region, bytes);
  }
  std::vector<uint64_t> values(number(file));
  for (uint64_t& value : values) {
    uint64_t region = number(file);  // 0: a number, else 1 + the region that it is a place in
    value = number(file);
    if (region) value += reinterpret_cast<uint64_t>(regions[region - 1]);
  }
  std::fclose(file);

  std::vector<void*> arguments;
  for (uint64_t& value : values) arguments.push_back(&value);
  char message[1024];
  void* fault;
  int failed = cusim_launch(kernel, sizes, sizes + 3, dynamic_bytes, order, 0, arguments.data(), message,
                            sizeof message, &fault);
  if (failed) std::fprintf(stderr, "%s\n", message);
  return failed;
}
