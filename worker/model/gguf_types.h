// Block geometry of ggml tensor types.
#pragma once

#include <cstdint>

namespace orch::worker {

struct GgmlTypeShape {
  std::uint32_t id = 0;
  const char* name = "";
  std::uint32_t block_elements = 1;
  std::uint32_t block_bytes = 0;
};

const GgmlTypeShape* find_ggml_type(std::uint32_t id);  // nullptr: unknown

}  // namespace orch::worker
