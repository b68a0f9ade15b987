// What ThreadSanitizer is told: which fiber runs, and which fiber's work another one may rely on.  Nothing, without it.
//
// The runtime itself is compiled without -fsanitize=thread: only the kernel's accesses are watched.
#pragma once

#ifdef CUSIM_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_func_entry(void* called_from);
void __tsan_func_exit(void);
}
#endif

namespace cusim::tsan {

#ifdef CUSIM_TSAN
constexpr bool ON = true;
inline void* current_fiber() { return __tsan_get_current_fiber(); }
inline void* new_fiber() { return __tsan_create_fiber(0); }
inline void drop_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
// 1: a switch alone orders nothing
inline void switch_to(void* fiber) { __tsan_switch_to_fiber(fiber, 1); }
inline void acquire(void* address) { __tsan_acquire(address); }
inline void release(void* address) { __tsan_release(address); }
// For a function of the runtime whose accesses are the kernel's: reports show the line that called it.
struct Called {
  explicit Called(void* from) { __tsan_func_entry(from); }
  ~Called() { __tsan_func_exit(); }
};
#else
constexpr bool ON = false;
inline void* current_fiber() { return nullptr; }
inline void* new_fiber() { return nullptr; }
inline void drop_fiber(void*) {}
inline void switch_to(void*) {}
inline void acquire(void*) {}
inline void release(void*) {}
struct Called {
  explicit Called(void*) {}
};
#endif

}  // namespace cusim::tsan
