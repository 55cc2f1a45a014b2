// Purpose: the HTTP routes that ask for jobs: POST /v1/tasks, /v1/chat/completions and /v1/completions. Each is let in
// or refused by its head (OC-ADMIT-1005), and the handler of its body carries its place. It decides nothing. Threads:
// loop only.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "common/runtime/http_server.h"
#include "gen/config_orchestratord.h"
#include "orchestratord/core/orchestrator.h"
#include "orchestratord/shell/chat_request.h"
#include "orchestratord/shell/client_desk.h"
#include "orchestratord/shell/http_sinks.h"
#include "orchestratord/shell/task_home.h"

namespace orch::gateway {

class HttpSubmissions {
 public:
  static constexpr std::string_view kTasks = "/v1/tasks";
  static constexpr std::string_view kChat = "/v1/chat/completions";
  static constexpr std::string_view kCompletions = "/v1/completions";
  static constexpr std::array kPaths{kTasks, kChat, kCompletions};

  HttpSubmissions(const gateway_config::Config& config, const Orchestrator& core, const TaskHome& home,
                  ClientDesk& desk)
      : config_(config), core_(core), home_(home), desk_(desk) {}

  static bool takes(const runtime::HttpRequest& request);
  // Of a request that it takes, from a caller of this tenant.
  runtime::HttpVerdict let_in(const runtime::HttpRequest& request, const std::string& tenant);
  // With what is left of the budgets when the head is written.
  SinkLimits sink_limits(std::string tenant, std::string session) const;

 private:
  void post_task(const runtime::HttpExchangePtr& exchange, const std::string& tenant, LetIn& let_in);
  // Of /v1/chat/completions and of /v1/completions, which differ in what is read and in the form of the answer.
  void complete(const runtime::HttpExchangePtr& exchange, AnswerForm form, const std::string& tenant, LetIn& let_in);
  void chat_choices(const runtime::HttpExchangePtr& exchange, const ChatRequest& request, ChatIdentity identity,
                    LetIn& let_in);

  const gateway_config::Config& config_;
  const Orchestrator& core_;
  const TaskHome& home_;
  ClientDesk& desk_;
};

// A chat request without max_tokens gets this many: a default, and at most half of the model's context.
std::uint32_t default_chat_tokens(const Orchestrator& core, const std::string& model_ref);

}  // namespace orch::gateway
