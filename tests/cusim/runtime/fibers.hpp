// Fibers: stacks of their own that one operating-system thread switches between.
#pragma once
#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cusim {

#if defined(__x86_64__)

// Saves the registers that a function must keep, and goes on where the other fiber saved its own.
extern "C" void cusim_switch(void** from, void* to);
asm(R"(
.text
.type cusim_switch,@function
cusim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

struct Fiber {
  void* stack_pointer = nullptr;

  // Lays the stack out as cusim_switch leaves one, so that the first switch "returns" to the entry.
  void make(char* stack, size_t bytes, void (*entry)()) {
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15));
    *--top = nullptr;  // where the entry would return to: keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_pointer = top;
  }
  void switch_to(Fiber& other) { cusim_switch(&stack_pointer, other.stack_pointer); }
};

#else

struct Fiber {
  ucontext_t context;

  void make(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  void switch_to(Fiber& other) { swapcontext(&context, &other.context); }
};

#endif

}  // namespace cusim
