// Always-on assertions for faults of our own making: they print where and what, then abort. Input never triggers them.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace orch {

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "CHECK failed: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace orch

#define ORCH_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::orch::check_failed(#condition, __FILE__, __LINE__))

// O(n) invariants: on in every build that keeps assertions.
#ifdef NDEBUG
#define ORCH_DCHECK(condition) static_cast<void>(sizeof(condition))
#else
#define ORCH_DCHECK(condition) ORCH_CHECK(condition)
#endif
