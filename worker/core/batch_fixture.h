// A small vocabulary and a backend that remembers what was written into its pages, for tests of batching: the logits of
// a row are a function of the tokens that the page table leads to, so a wrong page, position or row shows as another
// token.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "worker/core/backend.h"
#include "worker/text/byte_symbols.h"
#include "worker/text/tokenizer.h"

namespace orch::worker::testing {

inline constexpr TokenId kEndToken = 0;
inline constexpr TokenId kFirstByte = 1;  // token of byte b is kFirstByte + b
inline constexpr std::uint32_t kVocabulary = 257;
inline constexpr std::uint32_t kHidden = 8;  // floats of a hidden state

inline Tokenizer byte_tokenizer() {
  VocabularyData data;
  data.model = "gpt2";
  data.pre = "smollm";
  data.tokens = {"<|im_end|>"};
  data.types = {3};
  for (unsigned byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(byte_symbol(static_cast<std::uint8_t>(byte)));
    data.types.push_back(1);
  }
  data.eos = kEndToken;
  auto made = Tokenizer::create(std::move(data));
  ORCH_CHECK(made.ok());
  return std::move(made).value();
}

class RememberingBackend final : public Backend {
 public:
  // Given all tokens of a sequence up to the row, fills its logits. Absent: a hash of the tokens decides.
  using Script = std::function<void(const std::vector<TokenId>&, std::span<float>)>;

  RememberingBackend(std::uint32_t pages, std::uint32_t rows_max, Script script = {})
      : cells_(std::size_t{pages} * kPageTokens, kUnwritten),
        pages_(pages),
        rows_max_(rows_max),
        script_(std::move(script)) {}

  BackendInfo info() const override {
    ++info_calls;
    BackendInfo out;
    out.name = "remembering";
    out.pages_total = pages_;
    return out;
  }
  std::uint64_t kv_saturated_total() const override { return kv_saturated; }
  std::uint32_t rows_max() const override { return rows_max_; }

  Status<BackendFault> step(const StepInput& input, const StepOutput& out) override {
    if (before_step) before_step();
    if (fault_after_steps-- == 0) return Err{BackendFault{fault, "device lost"}};
    ORCH_CHECK(!input.rows.empty() && input.rows.size() <= rows_max_);
    rows_of_steps.push_back(static_cast<std::uint32_t>(input.rows.size()));
    for (const Row& row : input.rows) cell(input, row.sequence, row.position) = row.token;
    std::size_t logits_at = 0;
    std::size_t hidden_at = 0;
    for (const Row& row : input.rows) {
      if (!row.want_logits && !row.want_hidden) continue;
      const std::vector<TokenId> tokens = written(input, row);
      if (row.want_hidden) hashed(tokens, out.hidden.subspan(std::exchange(hidden_at, hidden_at + kHidden), kHidden));
      if (!row.want_logits) continue;
      const auto logits = out.logits.subspan(std::exchange(logits_at, logits_at + kVocabulary), kVocabulary);
      if (script_)
        script_(tokens, logits);
      else
        hashed(tokens, logits);
    }
    ORCH_CHECK(logits_at == out.logits.size() && hidden_at == out.hidden.size());
    return Ok{};
  }
  Status<BackendFault> copy_page(PageId source, PageId target) override {
    for (std::uint32_t i = 0; i < kPageTokens; ++i) cells_[target * kPageTokens + i] = cells_[source * kPageTokens + i];
    return Ok{};
  }

  std::vector<std::uint32_t> rows_of_steps;
  std::uint64_t kv_saturated = 0;  // set it in before_step
  mutable std::uint32_t info_calls = 0;
  std::function<void()> before_step;
  std::int64_t fault_after_steps = std::numeric_limits<std::int64_t>::max();
  BackendFaultKind fault = BackendFaultKind::device_lost;

 private:
  static constexpr TokenId kUnwritten = 0xFFFFFFFF;

  TokenId& cell(const StepInput& input, SequenceIndex sequence, std::uint32_t position) {
    const auto& table = input.page_tables[sequence];
    ORCH_CHECK(position / kPageTokens < table.size());
    return cells_[std::size_t{table[position / kPageTokens]} * kPageTokens + position % kPageTokens];
  }
  // What the pages hold of the row's sequence, up to it.
  std::vector<TokenId> written(const StepInput& input, const Row& row) {
    std::vector<TokenId> tokens;
    for (std::uint32_t position = 0; position <= row.position; ++position) {
      tokens.push_back(cell(input, row.sequence, position));
      ORCH_CHECK(tokens.back() != kUnwritten);
    }
    return tokens;
  }
  static void hashed(const std::vector<TokenId>& tokens, std::span<float> logits) {
    std::uint64_t state = 1469598103934665603ULL;
    for (const TokenId token : tokens) state = (state ^ token) * 1099511628211ULL;
    for (std::size_t id = 0; id < logits.size(); ++id) {
      const std::uint64_t mixed = (state ^ (id * 0x9E3779B97F4A7C15ULL)) * 0xBF58476D1CE4E5B9ULL;
      logits[id] = static_cast<float>(mixed >> 40) * 0x1p-22F;
    }
    logits[kEndToken] = -50;
  }

  std::vector<TokenId> cells_;
  std::uint32_t pages_;
  std::uint32_t rows_max_;
  Script script_;
};

// Says `text` byte by byte behind a prompt of `prompt_tokens`, then ends.
inline RememberingBackend::Script saying(std::string text, std::size_t prompt_tokens) {
  return [text = std::move(text), prompt_tokens](const std::vector<TokenId>& tokens, std::span<float> logits) {
    for (float& logit : logits) logit = 0;
    const std::size_t at = tokens.size() - prompt_tokens;
    const TokenId next = at < text.size() ? kFirstByte + static_cast<unsigned char>(text[at]) : kEndToken;
    logits[next] = 40;
  };
}

}  // namespace orch::worker::testing
