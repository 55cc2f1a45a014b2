// SHA-256 of an opened model file, to compare with the pinned digest before readiness.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "common/base/result.h"
#include "worker/model/model_error.h"

namespace orch::worker {

// "sha256:" + 64 lower-case hex digits. `progress` gets 0..1 and may be empty. Blocks about 1 s per GB.
// Several parts are hashed as one file, in their order.
Result<std::string, ModelError> sha256_of(std::span<const std::byte> bytes, const std::function<void(float)>& progress);
Result<std::string, ModelError> sha256_of(std::span<const std::span<const std::byte>> parts,
                                          const std::function<void(float)>& progress);

}  // namespace orch::worker
