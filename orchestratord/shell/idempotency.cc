#include "orchestratord/shell/idempotency.h"

#include <algorithm>
#include <string>

#include "common/runtime/entropy.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"

namespace orch::gateway {

Result<std::optional<Idempotency>, Failure> read_idempotency(std::string_view key, std::string_view tenant,
                                                             std::string_view body) {
  if (key.empty()) return std::optional<Idempotency>{};
  const bool printable = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (key.size() > kIdempotencyKeyBytesMax || !printable) {
    return Err{invalid("Idempotency-Key", "Idempotency-Key must have 1.." + std::to_string(kIdempotencyKeyBytesMax) +
                                              " printable ASCII characters without spaces")};
  }
  std::string named(tenant);
  named.push_back('\0');
  named.append(key);
  return std::optional(Idempotency{runtime::sha256(named), runtime::sha256(body)});
}

}  // namespace orch::gateway
