#include "orchestratord/shell/idempotency.h"

#include <algorithm>
#include <string>

#include "common/runtime/entropy.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"

namespace orch::gateway {

std::optional<std::array<std::uint8_t, 32>> idempotency_key(std::string_view key, std::string_view tenant) {
  const bool printable = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (key.empty() || key.size() > kIdempotencyKeyBytesMax || !printable) return std::nullopt;
  std::string named(tenant);
  named.push_back('\0');
  named.append(key);
  return runtime::sha256(named);
}

Result<std::optional<Idempotency>, Failure> read_idempotency(std::string_view key, std::string_view tenant,
                                                             std::string_view body) {
  if (key.empty()) return std::optional<Idempotency>{};
  const auto named = idempotency_key(key, tenant);
  if (!named) {
    return Err{invalid("Idempotency-Key", "Idempotency-Key must have 1.." + std::to_string(kIdempotencyKeyBytesMax) +
                                              " printable ASCII characters without spaces")};
  }
  return std::optional(Idempotency{*named, runtime::sha256(body)});
}

}  // namespace orch::gateway
