// Which thread prepares a submission, by what it says of its size before anything of it is read (OC-WORKER-1007). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "worker/core/engine_port.h"

namespace orch::worker {

enum class PreparationLane : std::uint8_t {
  swift,  // short, and a constraint only when it is kept
  slow,   // long texts and conversations, constraints that are to be compiled
};
inline constexpr std::size_t kPreparationLanes = 2;

inline constexpr std::size_t kSwiftBytesMax = 16 * 1024;  // of all texts, roles included, and 4 for each token id
inline constexpr std::size_t kSwiftMessagesMax = 64;

inline PreparationLane lane_by(std::size_t bytes, std::size_t messages) {
  return bytes <= kSwiftBytesMax && messages <= kSwiftMessagesMax ? PreparationLane::swift : PreparationLane::slow;
}

inline PreparationLane lane_of(const EnginePrompt& prompt) {
  std::size_t bytes = prompt.text.size() + prompt.token_ids.size() * sizeof(std::uint32_t);
  for (const auto& [role, content] : prompt.messages) bytes += role.size() + content.size();
  return lane_by(bytes, prompt.messages.size());
}

// The query is read once with each item; an item counts as a message.
inline PreparationLane lane_of(const ScoreRequest& request) {
  const std::size_t items = request.item_texts.size() + request.item_ids.size();
  std::size_t bytes = (request.query_text.size() + request.query_ids.size() * sizeof(std::uint32_t)) * items;
  for (const std::string& text : request.item_texts) bytes += text.size();
  for (const auto& ids : request.item_ids) bytes += ids.size() * sizeof(std::uint32_t);
  return lane_by(bytes, items);
}

}  // namespace orch::worker
