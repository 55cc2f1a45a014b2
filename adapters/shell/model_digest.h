// "sha256:<64 hex>" of a file, or empty when it cannot be read whole. Blocks for as long as reading takes.
#pragma once

#include <string>

namespace orch::adapter {

std::string model_digest(const std::string& path);

}  // namespace orch::adapter
