// The tokenizer.* keys of a model file as plain values.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "worker/model/gguf_file.h"
#include "worker/text/tokenizer.h"

namespace orch::worker {

Result<VocabularyData, ModelError> read_vocabulary(const GgufFile& file);

// nullopt: the file has none.
Result<std::optional<std::string>, ModelError> read_chat_template(const GgufFile& file);

}  // namespace orch::worker
