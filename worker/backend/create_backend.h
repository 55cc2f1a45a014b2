// From an opened model file to a running backend on the device asked for: config, memory estimate, weights, self-test.
// The file may be dropped afterwards.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "worker/core/backend.h"
#include "worker/model/backend_options.h"
#include "worker/model/gguf_file.h"
#include "worker/model/memory_estimate.h"
#include "worker/model/model_config.h"
#include "worker/model/model_error.h"

namespace orch::worker {

struct LoadedBackend {
  std::unique_ptr<Backend> backend;
  ModelConfig config;
  MemoryEstimate memory;        // memory.context tokens per slot, memory.pages KV pages
  std::string skipped_devices;  // what `auto` passed over, and why; empty: nothing
};

// Blocks for seconds. `progress` gets 0..1 and may be empty.
Result<LoadedBackend, ModelError> create_backend(const GgufFile& file, const BackendOptions& options,
                                                 const std::function<void(float)>& progress);

struct DeviceLine {
  std::string name;  // what --device takes: cpu, vulkan:0
  std::string description;
  std::uint64_t memory_bytes = 0;
  std::string excluded;  // why `auto` does not pick it; empty when it may
};
// None of them is tested for it, which takes a load (OC-DEVICE-1011).
std::vector<DeviceLine> list_devices();
// Fields between tabs, for people and scripts.
std::string to_text(const DeviceLine& line);

}  // namespace orch::worker
