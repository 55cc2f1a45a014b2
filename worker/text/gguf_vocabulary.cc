#include "worker/text/gguf_vocabulary.h"

#include <limits>

namespace orch::worker {

namespace {

Result<std::optional<TokenId>, ModelError> token_id(const GgufFile& file, const char* key) {
  auto value = file.unsigned_value(key);
  if (!value.ok()) return Err{value.error()};
  if (!value.value()) return std::optional<TokenId>{};
  if (**value > std::numeric_limits<TokenId>::max()) {
    return Err{
        ModelError{ModelErrorKind::bad_file, key, "token id " + std::to_string(**value) + " does not fit 32 bits"}};
  }
  return std::optional<TokenId>{static_cast<TokenId>(**value)};
}

Result<std::string, ModelError> text(const GgufFile& file, const char* key) {
  auto value = file.string_value(key);
  if (!value.ok()) return Err{value.error()};
  return value.value() ? std::string(**value) : std::string();
}

}  // namespace

Result<VocabularyData, ModelError> read_vocabulary(const GgufFile& file) {
  VocabularyData out;
  ORCH_TRY(model, text(file, "tokenizer.ggml.model"));
  ORCH_TRY(pre, text(file, "tokenizer.ggml.pre"));
  ORCH_TRY(tokens, file.string_array("tokenizer.ggml.tokens"));
  ORCH_TRY(merges, file.string_array("tokenizer.ggml.merges"));
  ORCH_TRY(types, file.integer_array("tokenizer.ggml.token_type"));
  ORCH_TRY(bos, token_id(file, "tokenizer.ggml.bos_token_id"));
  ORCH_TRY(eos, token_id(file, "tokenizer.ggml.eos_token_id"));
  ORCH_TRY(eot, token_id(file, "tokenizer.ggml.eot_token_id"));
  ORCH_TRY(unknown, token_id(file, "tokenizer.ggml.unknown_token_id"));
  ORCH_TRY(scores, file.float_array("tokenizer.ggml.scores"));
  ORCH_TRY(add_bos, file.bool_value("tokenizer.ggml.add_bos_token"));
  ORCH_TRY(add_eos, file.bool_value("tokenizer.ggml.add_eos_token"));
  ORCH_TRY(add_space_prefix, file.bool_value("tokenizer.ggml.add_space_prefix"));
  out.model = model;
  out.pre = pre;
  if (tokens) out.tokens.assign(tokens->begin(), tokens->end());
  if (merges) out.merges.assign(merges->begin(), merges->end());
  if (types) {
    for (const std::int64_t type : *types)
      out.types.push_back(type < 0 || type > 255 ? 0 : static_cast<std::int32_t>(type));
  }
  out.bos = bos;
  out.eos = eos;
  out.eot = eot;
  out.unknown = unknown;
  if (scores) out.scores = std::move(*scores);
  // What files of these kinds mean when they do not say it.
  const bool pieces = out.model == "llama";
  out.add_bos = add_bos.value_or(pieces || pre_tokenizer_by_name(out.pre) == PreTokenizer::llama3);
  out.add_eos = add_eos.value_or(false);
  out.add_space_prefix = pieces && add_space_prefix.value_or(true);
  return out;
}

Result<std::optional<std::string>, ModelError> read_chat_template(const GgufFile& file) {
  auto value = file.string_value("tokenizer.chat_template");
  if (!value.ok()) return Err{value.error()};
  if (!value.value()) return std::optional<std::string>{};
  return std::optional<std::string>{std::string(**value)};
}

}  // namespace orch::worker
