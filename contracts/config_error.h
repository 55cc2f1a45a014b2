// Why a configuration was refused: the path of the key and what is wrong with it, the limit included.
#pragma once

#include <string>

namespace orch {

struct ConfigError {
  std::string path;     // "pools[1].model.digest"; empty when the document as a whole is at fault
  std::string message;  // "must be an integer 1..64, is \"many\" (line 12)"

  std::string text() const { return path.empty() ? message : path + ": " + message; }
};

}  // namespace orch
