// Names of full KV pages: a SHA-256 chain, so that a key stands for every token up to the end of its page and for all
// that their keys and values depend on (OC-ENGINE-1016; ENGINE-RULES interface 2). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/core/kv_pages.h"

namespace orch::worker {

// What keys and values depend on besides the tokens. Model and numerics come from the engine, the tenant from the job:
// tenants never read each other's pages, not even of equal text, for a hit can be told by its speed.
struct PageScope {
  std::string model_digest;
  std::string numeric_class;
  std::string adapter;  // none exist yet
  std::string kv_type = "f16";
};

class PageKeys {
 public:
  PageKeys(const PageScope& scope, std::string_view tenant);

  // Key of the page that holds tokens 32 i .. 32 i + 31 of the sequence; pages are asked for in order, each once new.
  template <typename TokenAt>
  const PageKey& key(std::size_t page, TokenAt token_at) {
    while (keys_.size() <= page) {
      std::array<std::uint32_t, kPageTokens> tokens{};
      const auto first = static_cast<std::uint32_t>(keys_.size()) * kPageTokens;
      for (std::uint32_t i = 0; i < kPageTokens; ++i) tokens[i] = token_at(first + i);
      append(tokens);
    }
    return keys_[page];
  }

  // Stands for all that is before page `page`.
  template <typename TokenAt>
  const PageKey& before(std::size_t page, TokenAt token_at) {
    return page == 0 ? root_ : key(page - 1, token_at);
  }

 private:
  void append(const std::array<std::uint32_t, kPageTokens>& tokens);

  PageKey root_{};
  std::vector<PageKey> keys_;
};

}  // namespace orch::worker
