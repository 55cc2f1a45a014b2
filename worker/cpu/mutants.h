// Wrong engines on purpose: each mutant of ENGINE-RULES "How agreement is judged", as a changed model or kernel table.
// Tests and the agreement harness show that each one is seen. Never linked into a product binary.
#pragma once

#include <string>
#include <vector>

#include "worker/cpu/kernels.h"
#include "worker/model/weights.h"

namespace orch::worker::cpu {

struct Mutant {
  std::string name;
  void (*change_model)(Model& model) = nullptr;  // either may be null
  CpuKernels (*change_kernels)() = nullptr;      // on the fastest table; those of a matmul are scalar and slow
};

// swapped-nibbles, neox-rope, eps-times-10, position-off-by-one, wrong-head-scale, split-of-128, fused-multiply-add.
// A missing BOS is a mutant of the caller: it feeds other tokens.
const std::vector<Mutant>& mutants();

// The table that the mutant runs with: its own, or the right one of this CPU when only the model is changed.
CpuKernels kernels_of(const Mutant& mutant);

}  // namespace orch::worker::cpu
