// A kernel as the runtime and Python see it: the types of its parameters, and one way to call it.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>

namespace cusim {

struct Parameter {
  bool pointer;   // then kind and size are those of what it points to
  bool constant;  // a pointer to const
  char kind;      // f float, i signed, u unsigned, b bool, s struct, v void
  unsigned size;  // in bytes
};

struct Kernel {
  const Parameter* parameters;
  int count;
  void (*call)(void* const* arguments);
};

template <class T>
constexpr char kind_of() {
  if (std::is_void<T>::value) return 'v';
  if (std::is_same<T, bool>::value) return 'b';
  if (std::is_floating_point<T>::value) return 'f';
  if (std::is_integral<T>::value) return std::is_signed<T>::value ? 'i' : 'u';
  return 's';
}

template <class T>
constexpr unsigned size_of() {
  if constexpr (std::is_void<T>::value) {
    return 0;
  } else {
    return sizeof(T);
  }
}

template <class P>
constexpr Parameter parameter() {
  using Pointed = std::remove_pointer_t<P>;
  using Bare = std::remove_cv_t<Pointed>;
  return {std::is_pointer<P>::value, std::is_const<Pointed>::value, kind_of<Bare>(), size_of<Bare>()};
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), void* const* arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
}

template <auto kernel>
struct Described;

template <class... P, void (*kernel)(P...)>
struct Described<kernel> {
  static constexpr Parameter parameters[sizeof...(P) + 1] = {parameter<P>()..., {}};  // no array is empty
  static void run(void* const* arguments) { call(kernel, arguments, std::index_sequence_for<P...>{}); }
};

template <class... P>
constexpr int count_of(void (*)(P...)) {
  return sizeof...(P);
}

template <auto kernel>
constexpr Kernel described() {
  return {Described<kernel>::parameters, count_of(kernel), Described<kernel>::run};
}

}  // namespace cusim

// The compiled .cu defines these two at its end.
extern "C" const cusim::Kernel cusim_kernels[];
