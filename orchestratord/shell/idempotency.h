// Purpose: the Idempotency-Key of a request as digests (J5). Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "common/base/result.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/stream_event.h"

namespace orch::gateway {

// The key alone, of a request whose body is not here; nullopt: none, or one that read_idempotency refuses.
std::optional<std::array<std::uint8_t, 32>> idempotency_key(std::string_view key, std::string_view tenant);

// nullopt: the request has none. Keys of different tenants never meet; the key itself is not kept.
Result<std::optional<Idempotency>, Failure> read_idempotency(std::string_view key, std::string_view tenant,
                                                             std::string_view body);

}  // namespace orch::gateway
