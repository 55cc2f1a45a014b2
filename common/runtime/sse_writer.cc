#include "common/runtime/sse_writer.h"

#include "common/runtime/json_text.h"

namespace orch::runtime {

void SseWriter::begin(HttpResponse head, Duration heartbeat) {
  begun_ = true;
  head.content_type = "text/event-stream";
  // Proxies must pass each event on as it comes.
  head.with("Cache-Control", "no-cache").with("X-Accel-Buffering", "no");
  exchange_->begin(std::move(head));
  exchange_->set_heartbeat(heartbeat, ": keep-alive\n\n");
}

SseWriter::Sent SseWriter::event(std::uint64_t id, std::string_view name, std::string_view data) {
  frame_.clear();
  if (id != 0) {
    frame_ += "id: ";
    append_number(frame_, id);
    frame_.push_back('\n');
  }
  if (!name.empty()) frame_.append("event: ").append(name).push_back('\n');
  frame_.append("data: ").append(data).append("\n\n");
  exchange_->write(frame_);
  return exchange_->pending_bytes() > pending_max_ ? Sent::overflow : Sent::ok;
}

void SseWriter::comment(std::string_view text) {
  frame_ = ": ";
  for (const char c : text) frame_.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
  frame_ += "\n\n";
  exchange_->write(frame_);
}

}  // namespace orch::runtime
