// From a model file to what the native engine runs: digest, tokenizer, chat template, backend.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "worker/backend/create_backend.h"
#include "worker/model/gguf_file.h"
#include "worker/shell/native_engine.h"

namespace orch::worker {

inline constexpr char kEngineName[] = "native";
inline constexpr char kSamplerProfileVersion[] = "native-1";  // bumped when sampling of the same seed changes

struct NativeModelOptions {
  std::string name;    // served under
  std::string digest;  // "sha256:<64 hex>"; empty: not checked, and reported as computed
  BackendOptions backend;
};

// Process exit code for an error of loading.
int exit_code_of(const ModelError& error);
EngineFailure to_failure(const ModelError& error);

// What the engine reports while loading.
EngineInfo initial_info(const NativeModelOptions& options);

// Blocks for seconds. The file is dropped when the weights are repacked. `progress` gets 0..1.
Result<NativeModel, ModelError> load_native_model(std::unique_ptr<GgufFile> file, const NativeModelOptions& options,
                                                  const std::function<void(float)>& progress);

}  // namespace orch::worker
