// The limits of client requests, one place for HTTP and gRPC. A refusal names the field and its limit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orch::gateway {

inline constexpr std::size_t kPlacementNamesMax = 16;  // of each list of a placement
inline constexpr std::size_t kPlacementNameBytesMax = 128;
inline constexpr std::size_t kModelRefBytesMax = 512;
inline constexpr std::size_t kMessagesMax = 4096;
inline constexpr std::size_t kContentPartsMax = 1024;
inline constexpr std::size_t kPromptBytesMax = 64 * 1024 * 1024;  // the body limit comes first
inline constexpr std::uint64_t kMaxTokensMax = 1'048'576;
inline constexpr std::uint64_t kDeadlineMsMax = 86'400'000;
inline constexpr std::uint64_t kSeedMax = 0x7FFF'FFFF'FFFF'FFFF;  // 63 bits
inline constexpr std::size_t kStopsMax = 16;
inline constexpr std::size_t kStopBytesMax = 256;
inline constexpr double kTemperatureMax = 2.0;
inline constexpr std::size_t kIdempotencyKeyBytesMax = 255;
inline constexpr std::uint64_t kTopKMax = 1'000'000;
inline constexpr double kPenaltyMax = 2.0;  // of frequency and presence, either sign
inline constexpr double kRepetitionPenaltyMin = 0.01;
inline constexpr double kRepetitionPenaltyMax = 10.0;
inline constexpr double kLogitBiasMax = 100.0;  // either sign
inline constexpr std::size_t kLogitBiasEntriesMax = 1024;
inline constexpr std::uint64_t kTopLogProbsMax = 20;
inline constexpr std::uint64_t kChoicesMax = 8;  // of one chat request
// A chat request without max_tokens; less when the model's context is smaller than twice this.
inline constexpr std::uint32_t kChatMaxTokensDefault = 1024;
inline constexpr std::uint32_t kCompletionMaxTokensDefault = 16;  // the OpenAI API's own

}  // namespace orch::gateway
