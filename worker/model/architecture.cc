#include "worker/model/architecture.h"

namespace orch::worker {
namespace {

// SmolLM2 files say "llama".
constexpr Architecture kArchitectures[] = {
    {.name = "llama"},
    {.name = "qwen2", .rope_pairing = RopePairing::half},
    {.name = "qwen3", .rope_pairing = RopePairing::half, .head_norms = true},
    {.name = "gemma3",
     .rope_pairing = RopePairing::half,
     .activation = Activation::gelu,
     .head_norms = true,
     .post_norms = true,
     .scaled_embedding = true,
     .window_every = 6,
     .local_rope_base = 10000.0F},
};

}  // namespace

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) return &architecture;
  }
  return nullptr;
}

std::string supported_architectures() {
  std::string out;
  for (const Architecture& architecture : kArchitectures)
    out += (out.empty() ? "" : ", ") + std::string(architecture.name);
  return out;
}

}  // namespace orch::worker
