// Random bytes from the kernel, digests and identities made of them. Shells only: cores get such values as inputs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace orch::runtime {

using Sha256 = std::array<std::uint8_t, 32>;

// The process ends when the kernel has no entropy to give: nothing safe can be done without it.
void fill_random(std::span<std::uint8_t> out);
std::uint64_t random_u64();
Uuid random_uuid();  // version 4
Secret random_secret();

Sha256 sha256(std::string_view bytes);
std::string to_hex(std::span<const std::uint8_t> bytes);
// Seed of a job whose client gave none: low 63 bits of SHA-256 of the task id's text (DESIGN ruling 9).
std::uint64_t seed_of_task(std::string_view task_id);

}  // namespace orch::runtime
