// A model of a file instead of a tiny one: its weights for a backend, its tokenizer, and prompts of English words.
// Immutable after open; safe to use from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/base/result.h"
#include "worker/model/gguf_file.h"
#include "worker/model/weights.h"
#include "worker/text/tokenizer.h"

namespace orch::determinism {

class FileModel {
 public:
  // Error: what is wrong with the file, in words.
  static Result<std::unique_ptr<FileModel>, std::string> open(const std::string& path);

  Result<worker::Model, std::string> load(std::uint32_t threads) const;
  const worker::Tokenizer& tokenizer() const { return tokenizer_; }
  std::vector<std::uint32_t> words(Prng& prng, std::uint32_t count) const;

 private:
  FileModel(std::unique_ptr<worker::GgufFile> file, worker::Tokenizer tokenizer)
      : file_(std::move(file)), tokenizer_(std::move(tokenizer)) {}

  std::unique_ptr<worker::GgufFile> file_;
  worker::Tokenizer tokenizer_;
};

}  // namespace orch::determinism
