// What the runtime itself moves for a kernel, where its traffic is counted.  Nothing, without it.
#pragma once
#include <cstddef>

namespace cusim::counting {

#ifdef CUSIM_COUNT
void load(const void* from, size_t bytes);
#else
inline void load(const void*, size_t) {}
#endif

}  // namespace cusim::counting
