// Why a model could not be loaded. One type for the parser, the loader, the memory estimate and the backends' start.
#pragma once

#include <cstdint>
#include <string>

namespace orch::worker {

enum class ModelErrorKind : std::uint8_t {
  missing_file,        // exit 66
  io,                  // the file exists and cannot be read
  bad_file,            // exit 65: corrupt, truncated, over a limit
  unsupported,         // exit 65: well-formed, but an architecture, tensor type or option this build does not run
  memory,              // exit 71: does not fit the budget
  device_unavailable,  // exit 69: needed device or instruction set absent, or it failed the self-test
};

struct ModelError {
  ModelErrorKind kind = ModelErrorKind::bad_file;
  std::string field;    // metadata key, tensor name, option or file offset
  std::string message;  // says the value and the limit
};

}  // namespace orch::worker
