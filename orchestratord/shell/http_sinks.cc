#include "orchestratord/shell/http_sinks.h"

#include <optional>
#include <utility>
#include <vector>

#include "common/runtime/sse_writer.h"
#include "orchestratord/shell/failure_reply.h"
#include "orchestratord/shell/log_prob_text.h"

namespace orch::gateway {
namespace {

using runtime::HttpExchangePtr;
using runtime::HttpResponse;

constexpr std::size_t kHeadersUsual = 12;  // of an answer that a worker gave

HttpResponse event_stream_head() {
  HttpResponse head;
  head.content_type = "text/event-stream";
  return head;
}

// What served the answer, on every reply that knows it (ruling 10).
template <typename Visit>
void each_served_by_header(const ServedBy& served_by, Visit visit) {
  visit("X-Orch-Engine", served_by.engine);
  visit("X-Orch-Engine-Version", served_by.engine_version);
  visit("X-Orch-Model-Digest", served_by.model_digest);
  visit("X-Orch-Numeric-Class", served_by.numeric_class);
  visit("X-Orch-Accelerator", served_by.accelerator);
  visit("X-Orch-Replica", served_by.replica_id);
}

void add_served_by(HttpResponse& head, const ServedBy& served_by, const std::string& task_id) {
  head.headers.reserve(head.headers.size() + kHeadersUsual);
  head.with("X-Orch-Task-Id", task_id);
  each_served_by_header(served_by, [&head](const char* name, const std::string& value) { head.with(name, value); });
}

ChatUsage usage_of(const EndEvent& end) { return {end.prompt_tokens, end.tokens_out, end.cached_prompt_tokens}; }

class TaskSink final : public ReaderSink {
 public:
  TaskSink(HttpExchangePtr exchange, SinkLimits limits)
      : writer_(std::move(exchange), limits.pending_bytes_max), limits_(std::move(limits)) {}

  void opened(JobId job) override {
    HttpResponse head = event_stream_head();
    head.with("X-Orch-Task-Id", job.to_string());
    if (limits_.add_to_head) limits_.add_to_head(head);
    writer_.begin(std::move(head), limits_.heartbeat);
  }
  void served_by(const ServedBy& served_by) override { served_by_ = served_by; }
  Took event(const StreamEvent& event) override {
    data_.clear();
    const std::string_view name = append_task_event(data_, event, served_by_);
    return writer_.event(event.id, name, data_) == runtime::SseWriter::Sent::ok ? Took::ok : Took::overflow;
  }
  void refused(const Failure& failure) override {
    writer_.exchange().reply(failure_reply(failure, Envelope::orch_queue));
  }
  void closed() override { writer_.finish(); }
  void cut() override { writer_.exchange().abort(); }
  void when_drained(std::function<void()> callback) override { writer_.exchange().on_drained(std::move(callback)); }

 private:
  runtime::SseWriter writer_;
  const SinkLimits limits_;
  ServedBy served_by_;  // the last one
  std::string data_;    // reused
};

class ChatStreamSink final : public ReaderSink {
 public:
  ChatStreamSink(HttpExchangePtr exchange, SinkLimits limits, ChatIdentity identity, bool include_usage,
                 std::string task_id)
      : writer_(std::move(exchange), limits.pending_bytes_max),
        heartbeat_(limits.heartbeat),
        add_to_head_(std::move(limits.add_to_head)),
        identity_(std::move(identity)),
        include_usage_(include_usage),
        task_id_(std::move(task_id)) {}
  ~ChatStreamSink() override { writer_.exchange().on_overdue(Duration{}, nullptr); }

  // Admitted (OC-OAI-1008). The head waits for a worker, whose name it carries, but no longer than one heartbeat:
  // clients and proxies take a connection without a sign of life for a dead one.
  // A repeated request is told the name of the first one's job (OC-JOB-J5).
  void opened(JobId job) override {
    task_id_ = job.to_string();
    identity_.id = answer_id(identity_.form, task_id_);
    if (heartbeat_.ns > 0) writer_.exchange().on_overdue(heartbeat_, [this] { begin_waiting(); });
  }
  void served_by(const ServedBy& served_by) override {
    if (std::exchange(served_by_told_, true)) return;  // a later attempt of the same job
    if (writer_.begun()) {
      each_served_by_header(served_by, [this](const char* name, const std::string& value) {
        writer_.comment(std::string(name) + ": " + value);
      });
      return;
    }
    HttpResponse head = event_stream_head();
    add_served_by(head, served_by, task_id_);
    begin(std::move(head));
  }
  Took event(const StreamEvent& event) override {
    if (const auto* token = std::get_if<TokenEvent>(&event.body)) {
      if (token->text.empty()) return Took::ok;
      const Took took = send([&](std::string& out) {
        append_chat_text_chunk(out, identity_, token->text, include_usage_, 0,
                               {identity_.with_log_probs ? &token->log_probs : nullptr, text_offset_});
      });
      text_offset_ += characters(token->log_probs);
      return took;
    }
    if (const auto* end = std::get_if<EndEvent>(&event.body)) return take_end(*end);
    if (const auto* error = std::get_if<ErrorEvent>(&event.body)) {
      if (!writer_.begun()) {
        refused(error->failure);
        return Took::ok;
      }
      return send([&](std::string& out) { out += openai_error_json(error->failure); });
    }
    return Took::ok;
  }
  void refused(const Failure& failure) override {
    answered_ = true;
    writer_.exchange().reply(failure_reply(failure, Envelope::openai));
  }
  void closed() override {
    if (!answered_) writer_.finish();
  }
  void cut() override { writer_.exchange().abort(); }
  void when_drained(std::function<void()> callback) override { writer_.exchange().on_drained(std::move(callback)); }

 private:
  HttpResponse head_without_worker() const {
    HttpResponse head = event_stream_head();
    return head.with("X-Orch-Task-Id", task_id_);
  }
  void begin_waiting() {
    if (writer_.begun() || answered_) return;
    begin(head_without_worker());
    writer_.comment("waiting");
  }
  void begin(HttpResponse head) {
    if (add_to_head_) add_to_head_(head);
    writer_.begin(std::move(head), heartbeat_);
    if (identity_.form == AnswerForm::text) return;
    static_cast<void>(send([&](std::string& out) { append_chat_role_chunk(out, identity_, include_usage_); }));
  }
  Took take_end(const EndEvent& end) {
    if (!writer_.begun()) begin(head_without_worker());
    Took took = send([&](std::string& out) { append_chat_finish_chunk(out, identity_, end.reason, include_usage_); });
    if (include_usage_ && took == Took::ok) {
      took = send([&](std::string& out) { append_chat_usage_chunk(out, identity_, usage_of(end)); });
    }
    return took == Took::ok ? send([](std::string& out) { out += "[DONE]"; }) : took;
  }
  template <typename Append>
  Took send(const Append& append) {
    data_.clear();
    append(data_);
    return writer_.event(0, "", data_) == runtime::SseWriter::Sent::ok ? Took::ok : Took::overflow;
  }

  runtime::SseWriter writer_;
  Duration heartbeat_;
  std::function<void(HttpResponse&)> add_to_head_;
  ChatIdentity identity_;
  bool include_usage_;
  bool answered_ = false;
  bool served_by_told_ = false;
  std::uint64_t text_offset_ = 0;  // characters whose log-probabilities were told
  std::string task_id_;
  std::string data_;  // reused
};

class ChatWholeSink final : public ReaderSink {
 public:
  ChatWholeSink(HttpExchangePtr exchange, SinkLimits limits, ChatIdentity identity, std::string task_id)
      : exchange_(std::move(exchange)),
        add_to_head_(std::move(limits.add_to_head)),
        identity_(std::move(identity)),
        task_id_(std::move(task_id)) {}

  void opened(JobId job) override {
    task_id_ = job.to_string();
    identity_.id = answer_id(identity_.form, task_id_);
  }
  void served_by(const ServedBy& served_by) override { served_by_ = served_by; }
  Took event(const StreamEvent& event) override {
    if (const auto* token = std::get_if<TokenEvent>(&event.body)) {
      choice_.text += token->text;
      choice_.log_probs.insert(choice_.log_probs.end(), token->log_probs.begin(), token->log_probs.end());
    }
    if (const auto* end = std::get_if<EndEvent>(&event.body)) {
      std::string body;
      choice_.reason = end->reason;
      choice_.with_log_probs = identity_.with_log_probs;
      append_chat_completion(body, identity_, {choice_}, usage_of(*end));
      HttpResponse response = HttpResponse::json(200, std::move(body));
      if (served_by_) add_served_by(response, *served_by_, task_id_);
      if (add_to_head_) add_to_head_(response);
      exchange_->reply(std::move(response));
    }
    if (const auto* error = std::get_if<ErrorEvent>(&event.body)) refused(error->failure);
    return Took::ok;
  }
  void refused(const Failure& failure) override { exchange_->reply(failure_reply(failure, Envelope::openai)); }
  void closed() override {}
  // Nothing was said yet, so that it can be said why.
  void cut() override {
    Failure failure;
    failure.outcome = Outcome::SLOW_CONSUMER;
    failure.message = "what follows of the answer is not kept";
    refused(failure);
  }

 private:
  HttpExchangePtr exchange_;
  std::function<void(HttpResponse&)> add_to_head_;
  ChatIdentity identity_;
  std::string task_id_;
  std::optional<ServedBy> served_by_;
  ChatChoice choice_;
};

}  // namespace

void add_served_by_headers(HttpResponse& head, const ServedBy& served_by, const std::string& task_id) {
  add_served_by(head, served_by, task_id);
}

std::unique_ptr<ReaderSink> make_task_sink(HttpExchangePtr exchange, SinkLimits limits) {
  return std::make_unique<TaskSink>(std::move(exchange), std::move(limits));
}

std::unique_ptr<ReaderSink> make_chat_stream_sink(HttpExchangePtr exchange, SinkLimits limits, ChatIdentity identity,
                                                  bool include_usage, std::string task_id) {
  return std::make_unique<ChatStreamSink>(std::move(exchange), std::move(limits), std::move(identity), include_usage,
                                          std::move(task_id));
}

std::unique_ptr<ReaderSink> make_chat_whole_sink(HttpExchangePtr exchange, SinkLimits limits, ChatIdentity identity,
                                                 std::string task_id) {
  return std::make_unique<ChatWholeSink>(std::move(exchange), std::move(limits), std::move(identity),
                                         std::move(task_id));
}

}  // namespace orch::gateway
