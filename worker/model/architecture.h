// What tells the supported architectures apart, as data: the op list (plan.h) and the loader follow these fields and
// know no architecture by name. Value type.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace orch::worker {

// Which two elements of a head RoPE turns together: (2i, 2i + 1) or (i, i + dims / 2).
enum class RopePairing : std::uint8_t { adjacent, half };

// Of the feed-forward gate.
enum class Activation : std::uint8_t { silu, gelu };

struct Architecture {
  const char* name = "";  // general.architecture
  RopePairing rope_pairing = RopePairing::adjacent;
  Activation activation = Activation::silu;
  bool head_norms = false;         // RMSNorm of each head of q and k before RoPE
  bool post_norms = false;         // RMSNorm of what attention and feed-forward add, before it is added
  bool scaled_embedding = false;   // embeddings times the root of their width
  std::uint32_t window_every = 0;  // sliding windows in all layers but each n-th; 0: the architecture has none
  float local_rope_base = 0;       // of layers with a window, where the file names none; they know no scaling
};

// nullptr: not built.
const Architecture* find_architecture(std::string_view name);

std::string supported_architectures();  // their names, for refusals

}  // namespace orch::worker
