#include "worker/core/page_keys.h"

#include "worker/core/numerics.h"
#include "worker/core/sha256.h"

namespace orch::worker {

namespace {

// With its length in front, so that no two lists of texts read the same.
void add_text(Sha256& hash, std::string_view text) {
  hash.add_number(text.size());
  for (const char c : text) {
    const std::array<std::uint8_t, 1> byte = {static_cast<std::uint8_t>(c)};
    hash.add(byte);
  }
}

}  // namespace

PageKeys::PageKeys(const PageScope& scope, std::string_view tenant) {
  Sha256 hash;
  add_text(hash, tenant);
  add_text(hash, scope.model_digest);
  add_text(hash, scope.adapter);
  add_text(hash, scope.numeric_class);
  hash.add_number(numerics::kContractVersion);
  add_text(hash, scope.kv_type);
  root_ = hash.finish();
}

void PageKeys::append(const std::array<std::uint32_t, kPageTokens>& tokens) {
  Sha256 hash;
  hash.add(keys_.empty() ? root_ : keys_.back());
  for (const std::uint32_t token : tokens) hash.add_number(token);
  keys_.push_back(hash.finish());
}

}  // namespace orch::worker
