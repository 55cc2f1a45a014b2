#include "orchestratord/shell/chat_choices.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/runtime/sse_writer.h"
#include "orchestratord/shell/failure_reply.h"
#include "orchestratord/shell/log_prob_text.h"

namespace orch::gateway {
namespace {

using runtime::HttpResponse;

class ChatAnswer {
 public:
  explicit ChatAnswer(ChatChoicesSetup setup)
      : setup_(std::move(setup)),
        writer_(setup_.exchange, setup_.limits.pending_bytes_max),
        choices_(setup_.choices),
        text_offsets_(setup_.choices, 0),
        ended_(setup_.choices, false) {}
  ~ChatAnswer() { setup_.exchange->on_overdue(Duration{}, nullptr); }

  // Admitted: as OC-OAI-1008, the head waits for a worker, but not longer than one heartbeat.
  void opened() {
    if (setup_.stream && setup_.limits.heartbeat.ns > 0 && !std::exchange(waiting_, true))
      setup_.exchange->on_overdue(setup_.limits.heartbeat, [this] { begin(nullptr); });
  }
  void served_by(const ServedBy& by) {
    if (!served_by_) served_by_ = by;
    if (setup_.stream) begin(&by);
  }
  ReaderSink::Took event(std::uint32_t choice, const StreamEvent& event) {
    if (over_) return ReaderSink::Took::ok;
    if (const auto* token = std::get_if<TokenEvent>(&event.body)) return take(choice, *token);
    if (const auto* end = std::get_if<EndEvent>(&event.body)) return take(choice, *end);
    if (const auto* error = std::get_if<ErrorEvent>(&event.body)) refused(choice, error->failure);
    return ReaderSink::Took::ok;
  }
  void refused(std::uint32_t choice, const Failure& failure) {
    if (std::exchange(over_, true)) return;
    ended_[choice] = true;
    if (writer_.begun()) {
      static_cast<void>(send([&](std::string& out) { out += openai_error_json(failure); }));
      writer_.finish();
    } else {
      setup_.exchange->reply(failure_reply(failure, Envelope::openai));
    }
    abandon_others();
  }
  void cut(std::uint32_t choice) {
    if (std::exchange(over_, true)) return;
    ended_[choice] = true;
    setup_.exchange->abort();
    abandon_others();
  }

 private:
  void abandon_others() {
    for (std::uint32_t i = 0; i < setup_.choices; ++i) {
      if (ended_[i]) continue;
      ended_[i] = true;
      setup_.abandon(i);
    }
  }
  void begin(const ServedBy* by) {
    if (writer_.begun() || over_) return;
    HttpResponse head;
    head.content_type = "text/event-stream";
    if (by != nullptr)
      add_served_by_headers(head, *by, setup_.task_id);
    else
      head.with("X-Orch-Task-Id", setup_.task_id);
    if (setup_.limits.add_to_head) setup_.limits.add_to_head(head);
    writer_.begin(std::move(head), setup_.limits.heartbeat);
    for (std::uint32_t i = 0; i < setup_.choices && setup_.identity.form == AnswerForm::chat; ++i) {
      static_cast<void>(
          send([&](std::string& out) { append_chat_role_chunk(out, setup_.identity, setup_.include_usage, i); }));
    }
  }
  ReaderSink::Took take(std::uint32_t choice, const TokenEvent& token) {
    if (setup_.stream) {
      if (token.text.empty()) return ReaderSink::Took::ok;
      const ReaderSink::Took took = send([&](std::string& out) {
        append_chat_text_chunk(out, setup_.identity, token.text, setup_.include_usage, choice,
                               {setup_.identity.with_log_probs ? &token.log_probs : nullptr, text_offsets_[choice]});
      });
      text_offsets_[choice] += characters(token.log_probs);
      return took;
    }
    ChatChoice& into = choices_[choice];
    into.text += token.text;
    into.log_probs.insert(into.log_probs.end(), token.log_probs.begin(), token.log_probs.end());
    return ReaderSink::Took::ok;
  }
  ReaderSink::Took take(std::uint32_t choice, const EndEvent& end) {
    ended_[choice] = true;
    choices_[choice].reason = end.reason;
    choices_[choice].with_log_probs = setup_.identity.with_log_probs;
    // One prompt; what one choice computed of it, others find, and it was not there before (OC-OAI-1011).
    const bool first = std::count(ended_.begin(), ended_.end(), true) == 1;
    usage_.prompt_tokens = end.prompt_tokens;
    if (first || end.cached_prompt_tokens < usage_.cached_prompt_tokens)
      usage_.cached_prompt_tokens = end.cached_prompt_tokens;
    usage_.completion_tokens += end.tokens_out;
    const bool last = std::all_of(ended_.begin(), ended_.end(), [](bool each) { return each; });
    over_ = last;
    return setup_.stream ? end_stream(choice, end.reason, last) : end_whole(last);
  }
  ReaderSink::Took end_stream(std::uint32_t choice, FinishReason reason, bool last) {
    if (!writer_.begun()) {
      over_ = false;
      begin(nullptr);
      over_ = last;
    }
    ReaderSink::Took took = send([&](std::string& out) {
      append_chat_finish_chunk(out, setup_.identity, reason, setup_.include_usage, choice);
    });
    if (!last || took != ReaderSink::Took::ok) return took;
    if (setup_.include_usage)
      took = send([&](std::string& out) { append_chat_usage_chunk(out, setup_.identity, usage_); });
    if (took == ReaderSink::Took::ok) took = send([](std::string& out) { out += "[DONE]"; });
    writer_.finish();
    return took;
  }
  ReaderSink::Took end_whole(bool last) {
    if (!last) return ReaderSink::Took::ok;
    std::string body;
    append_chat_completion(body, setup_.identity, choices_, usage_);
    HttpResponse response = HttpResponse::json(200, std::move(body));
    if (served_by_) add_served_by_headers(response, *served_by_, setup_.task_id);
    if (setup_.limits.add_to_head) setup_.limits.add_to_head(response);
    setup_.exchange->reply(std::move(response));
    return ReaderSink::Took::ok;
  }
  template <typename Append>
  ReaderSink::Took send(const Append& append) {
    data_.clear();
    append(data_);
    return writer_.event(0, "", data_) == runtime::SseWriter::Sent::ok ? ReaderSink::Took::ok
                                                                       : ReaderSink::Took::overflow;
  }

  ChatChoicesSetup setup_;
  runtime::SseWriter writer_;
  std::vector<ChatChoice> choices_;
  std::vector<std::uint64_t> text_offsets_;  // characters whose log-probabilities were told
  std::vector<bool> ended_;                  // its job's, or we let go of it
  bool over_ = false;                        // nothing more is written
  bool waiting_ = false;
  std::optional<ServedBy> served_by_;
  ChatUsage usage_;
  std::string data_;  // reused
};

class ChoiceSink final : public ReaderSink {
 public:
  ChoiceSink(std::shared_ptr<ChatAnswer> answer, std::uint32_t choice) : answer_(std::move(answer)), choice_(choice) {}
  void opened(JobId) override { answer_->opened(); }
  void served_by(const ServedBy& by) override { answer_->served_by(by); }
  Took event(const StreamEvent& event) override { return answer_->event(choice_, event); }
  void refused(const Failure& failure) override { answer_->refused(choice_, failure); }
  void closed() override {}
  void cut() override { answer_->cut(choice_); }

 private:
  const std::shared_ptr<ChatAnswer> answer_;
  const std::uint32_t choice_;
};

}  // namespace

std::vector<std::unique_ptr<ReaderSink>> make_chat_choice_sinks(ChatChoicesSetup setup) {
  const std::uint32_t choices = setup.choices;
  const auto answer = std::make_shared<ChatAnswer>(std::move(setup));
  std::vector<std::unique_ptr<ReaderSink>> out;
  for (std::uint32_t i = 0; i < choices; ++i) out.push_back(std::make_unique<ChoiceSink>(answer, i));
  return out;
}

}  // namespace orch::gateway
