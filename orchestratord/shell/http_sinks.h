// Purpose: the three HTTP shapes of a job's stream: OrchQueue SSE, OpenAI SSE, and OpenAI's whole answer. Threads: loop
// only.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/time.h"
#include "common/runtime/http_server.h"
#include "orchestratord/shell/event_text.h"
#include "orchestratord/shell/reader_sink.h"

namespace orch::gateway {

struct SinkLimits {
  std::size_t pending_bytes_max = 262'144;
  Duration heartbeat = Duration::seconds(15);
  std::function<void(runtime::HttpResponse&)> add_to_head = nullptr;  // called when the head is written
};

// OC-OAI-1007.
void add_served_by_headers(runtime::HttpResponse& head, const ServedBy& served_by, const std::string& task_id);

// Opens at once with 200; errors after that are `error` events (OC-CTRL-2028).
std::unique_ptr<ReaderSink> make_task_sink(runtime::HttpExchangePtr exchange, SinkLimits limits);

// Opens when a worker has taken the job, so that its headers say what serves, or after one heartbeat of waiting
// (OC-OAI-1008); a failure before that is an HTTP status.
std::unique_ptr<ReaderSink> make_chat_stream_sink(runtime::HttpExchangePtr exchange, SinkLimits limits,
                                                  ChatIdentity identity, bool include_usage, std::string task_id);

// Collects the text and answers once. The text is bounded by the job's max_tokens.
std::unique_ptr<ReaderSink> make_chat_whole_sink(runtime::HttpExchangePtr exchange, SinkLimits limits,
                                                 ChatIdentity identity, std::string task_id);

}  // namespace orch::gateway
