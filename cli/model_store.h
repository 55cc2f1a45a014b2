// The model files of one user: a folder of `<name>.gguf`, each with the digest it was taken with beside it in
// `<name>.gguf.sha256`. Used from one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace orch::cli {

struct ModelFile {
  std::string name;  // it is served under
  std::string path;
  std::string digest;  // "sha256:<hex>"; empty when no digest file is there
  std::uint64_t bytes = 0;
};

struct PullRequest {
  std::string source;  // path of a file, or an https URL
  std::string name;    // 1 to 128 characters of A-Za-z0-9._-, not beginning with a dot
  std::string digest;  // "sha256:<64 hex>"; may be empty for a file of this machine
};

// Sorted by name. A folder that is not there holds nothing.
std::vector<ModelFile> list_models(const std::string& dir);

// The digest kept beside a model file; empty when there is none.
std::string digest_beside(const std::string& model_path);

// Copies or downloads the file, checks that it is a GGUF file of the given digest and only then gives it its name; what
// was begun and failed is removed. `progress` gets bytes so far and, when known, in all. Error: names the field or the
// file, and what it should have been.
Result<ModelFile, std::string> pull_model(
    const std::string& dir, const PullRequest& request,
    const std::function<void(std::uint64_t done, std::optional<std::uint64_t> all)>& progress);

}  // namespace orch::cli
