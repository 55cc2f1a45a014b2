// Purpose: server-sent events on one exchange. Everything appended in one turn leaves in one write; the bytes waiting
// for a slow reader are bounded. Threads: loop only. Ownership: shares the exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/time.h"
#include "common/runtime/http_server.h"

namespace orch::runtime {

class SseWriter {
 public:
  enum class [[nodiscard]] Sent : unsigned char { ok, overflow };

  // `pending_max`: bytes that may wait for the reader before event() says overflow.
  SseWriter(HttpExchangePtr exchange, std::size_t pending_max)
      : exchange_(std::move(exchange)), pending_max_(pending_max) {}

  // Sends the head at once, so that a client knows its stream is open before the first event.
  void begin(HttpResponse head, Duration heartbeat);
  bool begun() const { return begun_; }
  // `id` 0: no id line. `name` empty: no event line (OpenAI). `data` is one line.
  Sent event(std::uint64_t id, std::string_view name, std::string_view data);
  // A line that clients skip; control characters become spaces.
  void comment(std::string_view text);
  void finish() { exchange_->finish(); }
  HttpExchange& exchange() { return *exchange_; }

 private:
  HttpExchangePtr exchange_;
  std::size_t pending_max_;
  bool begun_ = false;
  std::string frame_;  // reused
};

}  // namespace orch::runtime
