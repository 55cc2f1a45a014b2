// Puts the calling thread's float unit into the contract's state for one step (round to nearest even, all exceptions
// masked) and restores what was there. ENGINE-RULES: "MXCSR is set at the top of each step on each compute thread".
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace orch::worker::cpu {

class FloatState {
 public:
#if defined(__x86_64__)
  explicit FloatState(bool flush_denormals) : before_(_mm_getcsr()) { _mm_setcsr(flush_denormals ? 0x9FC0U : 0x1F80U); }
  ~FloatState() { _mm_setcsr(before_); }
#else
  explicit FloatState(bool) {}
  ~FloatState() = default;
#endif
  FloatState(const FloatState&) = delete;
  FloatState& operator=(const FloatState&) = delete;

 private:
#if defined(__x86_64__)
  unsigned int before_;
#endif
};

}  // namespace orch::worker::cpu
