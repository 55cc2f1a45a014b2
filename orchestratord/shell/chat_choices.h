// Purpose: the answer to a chat request with n above 1 (OC-OAI-1012): one job per choice, each with a sink of its own,
// and one reply for all of them, streamed or whole. Threads: loop only. Ownership: the sinks share the answer.
//
// The first choice that fails ends the answer: its error is the client's, and the other jobs are canceled by `abandon`.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "orchestratord/shell/http_sinks.h"

namespace orch::gateway {

struct ChatChoicesSetup {
  runtime::HttpExchangePtr exchange;
  SinkLimits limits;
  ChatIdentity identity;
  std::string task_id;  // of the first choice
  std::uint32_t choices = 2;
  bool stream = false;
  bool include_usage = false;
  std::function<void(std::uint32_t choice)> abandon;  // no reader for this choice's job any more
};

// One sink per choice, in order.
std::vector<std::unique_ptr<ReaderSink>> make_chat_choice_sinks(ChatChoicesSetup setup);

}  // namespace orch::gateway
