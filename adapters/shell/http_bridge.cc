#include "adapters/shell/http_bridge.h"

#include <utility>

#include "adapters/core/upstream_error.h"

namespace orch::adapter {
namespace {

constexpr Duration kCountLimit = Duration::seconds(10);
constexpr std::size_t kCountBytesMax = 64 * 1024 * 1024;  // the conversation's own bound is tighter

}  // namespace

HttpBridge::HttpBridge(std::unique_ptr<Dialect> dialect, Options options)
    : dialect_(std::move(dialect)),
      options_(std::move(options)),
      loop_(*dialect_, options_.address, options_.budgets, status_),
      prober_(*dialect_, options_.address, options_.probing, status_) {}

worker::EngineInfo HttpBridge::info() const { return status_.info(); }

worker::EngineCounters HttpBridge::counters() const { return status_.counters(); }

void HttpBridge::submit(worker::GenerationRequest request, std::shared_ptr<worker::GenerationSink> sink) {
  loop_.submit(std::move(request), std::move(sink));
}

void HttpBridge::cancel(const DispatchId& id) { loop_.cancel(id); }

Result<std::pair<std::uint32_t, bool>, worker::EngineFailure> HttpBridge::count_tokens(
    const worker::EnginePrompt& prompt) {
  if (!prompt.token_ids.empty()) {
    return std::pair<std::uint32_t, bool>{static_cast<std::uint32_t>(prompt.token_ids.size()), false};
  }
  const auto conversation = dialect_->count(prompt);
  for (;;) {
    const HttpReply reply = fetch(options_.address, conversation->next(), kCountLimit, kCountBytesMax);
    if (reply.status == 0) {
      return Err{
          EngineFailure{.outcome = Outcome::POOL_UNAVAILABLE, .message = "no answer from the engine", .field = {}}};
    }
    std::vector<Event> events;
    conversation->head(reply.status);
    conversation->body(reply.body, events);
    conversation->end(events);
    for (Event& event : events) {
      if (auto* failure = std::get_if<EngineFailure>(&event)) return Err{std::move(*failure)};
      if (const auto* counted = std::get_if<Counted>(&event)) {
        return std::pair<std::uint32_t, bool>{counted->tokens, counted->estimated};
      }
    }
  }
}

}  // namespace orch::adapter
