#include "orchestratord/core/event_log.h"

#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/check.h"

namespace orch::gateway {
namespace {

constexpr std::uint64_t kEventOverhead = sizeof(StreamEvent) + 32;  // control block, deque slot
constexpr std::size_t kBlockBytes = 4096;

// Most events are tokens with their ids and nothing else.
const TokenEvent* plain_token(const StreamEvent& event) {
  const auto* token = std::get_if<TokenEvent>(&event.body);
  return token != nullptr && token->log_probs.empty() ? token : nullptr;
}

void put(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

std::uint64_t take(std::string_view bytes, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes[at++]);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
}

std::size_t width(std::uint64_t value) {
  std::size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

// Event id, index of the token event, ids, text; each number in groups of seven bits.
void encode(std::string& out, std::uint64_t id, const TokenEvent& token) {
  put(out, id);
  put(out, token.i);
  put(out, token.ids.size());
  for (const std::uint32_t each : token.ids) put(out, each);
  put(out, token.text.size());
  out += token.text;
}

EventLog::Event decode(std::string_view bytes, std::size_t& at) {
  auto event = std::make_shared<StreamEvent>();
  TokenEvent token;
  event->id = take(bytes, at);
  token.i = static_cast<std::uint32_t>(take(bytes, at));
  token.ids.resize(take(bytes, at));
  for (std::uint32_t& id : token.ids) id = static_cast<std::uint32_t>(take(bytes, at));
  const std::size_t length = take(bytes, at);
  token.text = bytes.substr(at, length);
  at += length;
  event->body = std::move(token);
  return event;
}

// As decode(), without making the event.
std::uint64_t skip(std::string_view bytes, std::size_t& at) {
  const std::uint64_t id = take(bytes, at);
  static_cast<void>(take(bytes, at));
  for (std::uint64_t left = take(bytes, at); left > 0; --left) static_cast<void>(take(bytes, at));
  const std::size_t length = take(bytes, at);
  at += length;
  return id;
}

}  // namespace

std::uint64_t event_bytes(const StreamEvent& event) {
  std::uint64_t bytes = kEventOverhead;
  if (const auto* token = std::get_if<TokenEvent>(&event.body)) {
    bytes += token->text.size() + token->ids.size() * sizeof(std::uint32_t);
    for (const TokenLogProbs& each : token->log_probs) bytes += each.bytes();
  }
  if (const auto* error = std::get_if<ErrorEvent>(&event.body))
    bytes += error->failure.message.size() + error->failure.field.size();
  return bytes;
}

std::uint64_t EventLog::cost(const StreamEvent& event) {
  const TokenEvent* token = plain_token(event);
  if (token == nullptr) return event_bytes(event);
  std::uint64_t bytes = width(event.id) + width(token->i) + width(token->ids.size()) + width(token->text.size());
  for (const std::uint32_t id : token->ids) bytes += width(id);
  return bytes + token->text.size();
}

void EventLog::append(const Event& event) {
  ORCH_CHECK(entries_ == 0 || event->id > last_id_);
  const TokenEvent* token = plain_token(*event);
  if (token == nullptr) {
    blocks_.push_back({event, {}, 0, event->id, event->id});
  } else {
    if (blocks_.empty() || blocks_.back().whole != nullptr || blocks_.back().bytes.size() >= kBlockBytes)
      blocks_.push_back({nullptr, {}, 0, event->id, event->id});
    encode(blocks_.back().bytes, event->id, *token);
    blocks_.back().last_id = event->id;
  }
  if (entries_++ == 0) first_id_ = event->id;
  last_id_ = event->id;
  bytes_ += cost(*event);
}

void EventLog::drop_first() {
  Block& block = blocks_.front();
  if (block.whole != nullptr) {
    bytes_ -= cost(*block.whole);
    blocks_.pop_front();
  } else {
    const std::size_t from = block.begin;
    static_cast<void>(skip(block.bytes, block.begin));
    bytes_ -= block.begin - from;
    if (block.begin == block.bytes.size()) blocks_.pop_front();
  }
  --entries_;
  find_first();
}

void EventLog::find_first() {
  if (blocks_.empty()) return;
  Block& block = blocks_.front();
  if (block.whole == nullptr) {
    std::size_t at = block.begin;
    block.first_id = take(block.bytes, at);
  }
  first_id_ = block.first_id;
}

void EventLog::shrink() {
  for (Block& block : blocks_) block.bytes.shrink_to_fit();
  blocks_.shrink_to_fit();
}

void EventLog::read(std::uint64_t after, const std::function<bool(Event, std::uint64_t)>& visit) const {
  for (const Block& block : blocks_) {
    if (block.last_id <= after) continue;
    if (block.whole != nullptr) {
      if (!visit(block.whole, cost(*block.whole))) return;
      continue;
    }
    for (std::size_t at = block.begin; at < block.bytes.size();) {
      const std::size_t from = at;
      if (block.first_id <= after) {  // only here may an entry lie before
        std::size_t peek = at;
        if (take(block.bytes, peek) <= after) {
          static_cast<void>(skip(block.bytes, at));
          continue;
        }
      }
      Event event = decode(block.bytes, at);
      if (!visit(std::move(event), at - from)) return;
    }
  }
}

}  // namespace orch::gateway
