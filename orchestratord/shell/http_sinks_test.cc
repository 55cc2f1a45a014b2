// What each HTTP shape of a job's stream writes, in which order, and what it does for a reader that falls behind.
#include "orchestratord/shell/http_sinks.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/shell/chat_choices.h"
#include "orchestratord/shell/client_desk.h"

namespace orch::gateway {
namespace {

using runtime::HttpRequest;
using runtime::HttpResponse;

// Keeps what was written; nothing of it ever leaves, as with a client that does not read.
class RecordingExchange final : public runtime::HttpExchange {
 public:
  const HttpRequest& request() const override { return request_; }
  std::string take_body() override { return {}; }
  void reply(HttpResponse response) override { head = std::move(response); }
  void begin(HttpResponse response) override {
    head = std::move(response);
    streaming = true;
  }
  void write(std::string_view bytes) override { body += bytes; }
  void finish() override { finished = true; }
  std::size_t pending_bytes() const override { return body.size(); }
  void on_drained(std::function<void()> callback) override { drained = std::move(callback); }
  void set_heartbeat(Duration interval, std::string) override { heartbeat = interval; }
  void on_overdue(Duration after, std::function<void()> callback) override {
    overdue_after = after;
    overdue = std::move(callback);
  }
  bool is_open() const override { return !aborted; }
  void on_disconnect(std::function<void()>) override {}
  void abort() override { aborted = true; }

  std::string header(std::string_view name) const {
    for (const auto& field : head.headers) {
      if (field.name == name) return field.value;
    }
    return {};
  }

  HttpResponse head;
  std::string body;
  Duration heartbeat{};
  Duration overdue_after{};
  std::function<void()> overdue;
  std::function<void()> drained;
  bool streaming = false;
  bool finished = false;
  bool aborted = false;

 private:
  HttpRequest request_;
};

using Exchange = std::shared_ptr<RecordingExchange>;

const SinkLimits kLimits{.pending_bytes_max = 4096, .heartbeat = Duration::seconds(15)};

std::unique_ptr<ReaderSink> chat_sink(const Exchange& exchange, SinkLimits limits = kLimits) {
  return make_chat_stream_sink(exchange, limits, {"chatcmpl-1", "m", 1}, false, "task-1");
}

ServedBy native_cpu() {
  ServedBy out;
  out.engine = "native";
  out.accelerator = "cpu";
  out.replica_id = "r-0";
  return out;
}

Failure failure(Outcome outcome) {
  Failure out;
  out.outcome = outcome;
  out.message = "because";
  return out;
}

StreamEvent token(std::string text) { return {2, TokenEvent{0, {}, std::move(text)}}; }

TEST(TaskSink, ORCH_1101_the_end_names_what_served_the_task_last) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = make_task_sink(exchange, kLimits);
  sink->opened(JobId{});
  ServedBy served_by = native_cpu();
  served_by.numeric_class = "X";
  sink->served_by(served_by);
  served_by.accelerator = "vulkan";
  sink->served_by(served_by);
  EXPECT_EQ(sink->event({3, EndEvent{}}), ReaderSink::Took::ok);
  EXPECT_NE(exchange->body.find(R"("accelerator":"vulkan","numeric_class":"X"})"), std::string::npos) << exchange->body;
}

// The core gives the next portion when the connection has taken the last, and to nobody who has left.
TEST(ClientDesk, OC_JOB_1017_a_reader_asks_for_more_when_its_connection_is_drained) {
  std::vector<Event> told;
  ClientDesk desk([&](Event event) { told.push_back(std::move(event)); });
  const auto exchange = std::make_shared<RecordingExchange>();
  const ReaderId reader = desk.open(JobId{}, std::nullopt, std::nullopt, make_task_sink(exchange, kLimits));
  told.clear();
  desk.execute(StreamOpened{reader, JobId{}});
  desk.execute(AwaitReader{reader});
  EXPECT_TRUE(told.empty()) << "it has not taken anything yet";
  ASSERT_TRUE(exchange->drained);
  exchange->drained();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(std::get<ReaderDrained>(told[0]).reader, reader);
  desk.execute(AwaitReader{reader});
  desk.gone(reader);
  told.clear();
  exchange->drained();
  EXPECT_TRUE(told.empty());
}

// The core is told, as of one that fell behind, and decides what becomes of the job.
TEST(ClientDesk, OC_JOB_1018_a_reader_is_cut_off_before_what_is_not_kept) {
  std::vector<Event> told;
  ClientDesk desk([&](Event event) { told.push_back(std::move(event)); });
  const auto exchange = std::make_shared<RecordingExchange>();
  const ReaderId reader = desk.open(JobId{}, std::nullopt, std::nullopt, make_task_sink(exchange, kLimits));
  desk.execute(StreamOpened{reader, JobId{}});
  told.clear();
  desk.execute(CutReader{reader});
  EXPECT_TRUE(exchange->aborted);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(std::get<ReaderGone>(told[0]).reader, reader);
  EXPECT_TRUE(std::get<ReaderGone>(told[0]).overflowed);
  desk.execute(CutReader{reader});
  EXPECT_EQ(told.size(), 1u) << "it has left";
}

TEST(ChatStreamSink, a_job_that_starts_at_once_is_served_by_a_head_that_names_the_worker) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = chat_sink(exchange);
  sink->opened(JobId{});
  EXPECT_FALSE(exchange->streaming);
  sink->served_by(native_cpu());
  EXPECT_TRUE(exchange->streaming);
  EXPECT_EQ(exchange->header("X-Orch-Accelerator"), "cpu");
  EXPECT_EQ(exchange->header("X-Orch-Task-Id"), JobId{}.to_string());
  EXPECT_EQ(exchange->body.find("X-Orch"), std::string::npos);
}

TEST(ChatStreamSink, OC_OAI_1008_a_job_that_waits_opens_after_one_heartbeat_and_names_its_worker_later) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = chat_sink(exchange);
  sink->opened(JobId{});
  EXPECT_EQ(exchange->overdue_after.ns, kLimits.heartbeat.ns);
  ASSERT_TRUE(exchange->overdue);
  exchange->overdue();
  EXPECT_TRUE(exchange->streaming);
  EXPECT_EQ(exchange->heartbeat.ns, kLimits.heartbeat.ns);
  EXPECT_NE(exchange->body.find(": waiting\n\n"), std::string::npos);
  sink->served_by(native_cpu());
  sink->served_by(native_cpu());  // a second attempt says nothing
  EXPECT_NE(exchange->body.find(": X-Orch-Accelerator: cpu\n\n"), std::string::npos);
  EXPECT_EQ(exchange->body.find(": X-Orch-Accelerator"), exchange->body.rfind(": X-Orch-Accelerator"));
  EXPECT_EQ(sink->event(token("hello")), ReaderSink::Took::ok);
  EXPECT_NE(exchange->body.find("hello"), std::string::npos);
}

TEST(ChatStreamSink, OC_OAI_1013_a_text_has_no_role_and_counts_its_characters) {
  for (const std::uint32_t choices : {1U, 2U}) {
    const auto exchange = std::make_shared<RecordingExchange>();
    ChatIdentity identity{"cmpl-1", "m", 1, true, AnswerForm::text};
    std::vector<std::unique_ptr<ReaderSink>> sinks;
    if (choices == 1) {
      sinks.push_back(make_chat_stream_sink(exchange, kLimits, identity, false, "1"));
    } else {
      ChatChoicesSetup setup;
      setup.exchange = exchange;
      setup.limits = kLimits;
      setup.identity = identity;
      setup.task_id = "1";
      setup.choices = choices;
      setup.stream = true;
      setup.abandon = [](std::uint32_t) {};
      sinks = make_chat_choice_sinks(std::move(setup));
    }
    ReaderSink& sink = *sinks.front();
    sink.opened(JobId{*Uuid::parse("6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10")});
    sink.served_by(native_cpu());
    StreamEvent first;
    first.body = TokenEvent{0, {1}, "\xc3\xa9t", {{{1, -0.5F, "\xc3\xa9"}, {}}, {{2, -0.5F, "t"}, {}}}};
    StreamEvent second;
    second.body = TokenEvent{2, {3}, "u", {{{3, -0.5F, "u"}, {}}}};
    EXPECT_EQ(sink.event(first), ReaderSink::Took::ok);
    EXPECT_EQ(sink.event(second), ReaderSink::Took::ok);
    EXPECT_EQ(exchange->body.find("role"), std::string::npos);
    EXPECT_EQ(exchange->body.find("delta"), std::string::npos);
    EXPECT_NE(exchange->body.find(R"("text_offset":[0,1])"), std::string::npos) << exchange->body;
    EXPECT_NE(exchange->body.find(R"("text_offset":[2])"), std::string::npos) << exchange->body;
    if (choices == 1) EXPECT_NE(exchange->body.find(R"("id":"cmpl-6a1d0c1e)"), std::string::npos) << exchange->body;
  }
}

TEST(ChatWholeSink, OC_JOB_1018_a_reader_that_is_cut_off_is_told_why) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = make_chat_whole_sink(exchange, kLimits, {"chatcmpl-1", "m", 1}, "1");
  sink->opened(JobId{});
  sink->cut();
  EXPECT_EQ(exchange->head.status, 500);
  EXPECT_NE(exchange->head.body.find("SLOW_CONSUMER"), std::string::npos) << exchange->head.body;
}

// The job of a repeated request is the first one's, and so is every name of it in the answer.
TEST(ChatStreamSink, OC_JOB_J5_a_repeated_request_is_answered_under_the_name_of_the_first) {
  const std::string first = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10";
  const auto is_named = [&](const Exchange& exchange, std::string_view how) {
    EXPECT_EQ(exchange->header("X-Orch-Task-Id"), first) << how;
    EXPECT_NE(exchange->body.find(R"("id":"chatcmpl-)" + first), std::string::npos) << how;
    EXPECT_EQ(exchange->body.find(R"("id":"chatcmpl-1")"), std::string::npos) << how;
  };
  const auto open = [&](const Exchange& exchange) {
    auto sink = chat_sink(exchange);
    sink->opened(JobId{*Uuid::parse(first)});
    return sink;
  };
  const auto served = std::make_shared<RecordingExchange>();
  const auto replayed = open(served);
  replayed->served_by(native_cpu());
  EXPECT_EQ(replayed->event(token("hello")), ReaderSink::Took::ok);
  is_named(served, "what a worker took");
  const auto waiting = std::make_shared<RecordingExchange>();
  const auto still_queued = open(waiting);
  waiting->overdue();
  is_named(waiting, "what still waits");
  const auto empty = std::make_shared<RecordingExchange>();
  EXPECT_EQ(open(empty)->event({2, EndEvent{}}), ReaderSink::Took::ok);
  is_named(empty, "what ended without a worker");
}

TEST(ChatStreamSink, OC_OAI_1008_a_refusal_and_a_failure_before_the_head_are_statuses) {
  const auto refused = std::make_shared<RecordingExchange>();
  chat_sink(refused)->refused(failure(Outcome::ADMISSION_REJECT));
  EXPECT_EQ(refused->head.status, 429);
  EXPECT_FALSE(refused->streaming);

  const auto failed = std::make_shared<RecordingExchange>();
  const auto sink = chat_sink(failed);
  sink->opened(JobId{});
  EXPECT_EQ(sink->event({2, ErrorEvent{failure(Outcome::POOL_UNREADY)}}), ReaderSink::Took::ok);
  EXPECT_EQ(failed->head.status, 503);
  failed->overdue();  // too late to matter
  EXPECT_FALSE(failed->streaming);
}

TEST(ChatStreamSink, OC_CTRL_2034_a_failure_after_the_early_head_is_an_error_event_without_an_end_mark) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = chat_sink(exchange);
  sink->opened(JobId{});
  exchange->overdue();
  EXPECT_EQ(sink->event({2, ErrorEvent{failure(Outcome::DEADLINE_UNMET)}}), ReaderSink::Took::ok);
  sink->closed();
  EXPECT_NE(exchange->body.find(R"("code":"DEADLINE_UNMET")"), std::string::npos);
  EXPECT_EQ(exchange->body.find("[DONE]"), std::string::npos);
  EXPECT_TRUE(exchange->finished);
}

TEST(ChatStreamSink, a_sink_that_is_gone_is_not_called_when_its_wait_ends) {
  const auto exchange = std::make_shared<RecordingExchange>();
  auto sink = chat_sink(exchange);
  sink->opened(JobId{});
  sink.reset();
  EXPECT_FALSE(exchange->overdue);
}

TEST(ChatStreamSink, without_heartbeats_the_head_waits_for_a_worker) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = chat_sink(exchange, {.pending_bytes_max = 4096, .heartbeat = Duration{}});
  sink->opened(JobId{});
  EXPECT_FALSE(exchange->overdue);
}

// What is left when the head is written, once for all choices.
TEST(ChatChoices, OC_BUDGET_1005_the_head_says_what_is_left_of_the_budgets) {
  for (const bool stream : {false, true}) {
    for (const bool waits : {false, true}) {
      if (waits && !stream) continue;  // a whole answer has its head at its end
      const auto exchange = std::make_shared<RecordingExchange>();
      int left = 40;
      ChatChoicesSetup setup;
      setup.exchange = exchange;
      setup.limits = kLimits;
      setup.limits.add_to_head = [&left](HttpResponse& head) {
        head.with("X-Budget-Tokens-Remaining", std::to_string(left--));
      };
      setup.identity = {"chatcmpl-1", "m", 1};
      setup.task_id = "task-1";
      setup.stream = stream;
      setup.abandon = [](std::uint32_t) {};
      const auto sinks = make_chat_choice_sinks(std::move(setup));
      for (const auto& sink : sinks) sink->opened(JobId{});
      if (waits) exchange->overdue();
      for (const auto& sink : sinks) {
        sink->served_by(native_cpu());
        EXPECT_EQ(sink->event(token("hello")), ReaderSink::Took::ok);
        EXPECT_EQ(sink->event({3, EndEvent{}}), ReaderSink::Took::ok);
      }
      EXPECT_EQ(exchange->header("X-Budget-Tokens-Remaining"), "40") << stream << waits;
      EXPECT_EQ(left, 39) << stream << waits;
    }
  }
}

// The choice that computed the prompt for the others need not be the first one, nor end first.
TEST(ChatChoices, OC_OAI_1011_what_one_choice_computed_for_the_others_was_not_cached) {
  const std::vector<std::uint32_t> found = {96, 32, 96};
  for (const std::uint32_t last : {0u, 1u, 2u}) {
    const auto exchange = std::make_shared<RecordingExchange>();
    ChatChoicesSetup setup;
    setup.exchange = exchange;
    setup.limits = kLimits;
    setup.identity = {"chatcmpl-1", "m", 3};
    setup.choices = 3;
    setup.abandon = [](std::uint32_t) {};
    const auto sinks = make_chat_choice_sinks(std::move(setup));
    for (std::uint32_t turn = 1; turn <= 3; ++turn) {
      const std::uint32_t choice = (last + turn) % 3;
      sinks[choice]->served_by(native_cpu());
      EndEvent end;
      end.prompt_tokens = 100;
      end.tokens_out = 4;
      end.cached_prompt_tokens = found[choice];
      EXPECT_EQ(sinks[choice]->event({3, end}), ReaderSink::Took::ok);
    }
    const auto usage = nlohmann::json::parse(exchange->head.body)["usage"];
    EXPECT_EQ(usage["prompt_tokens"], 100);
    EXPECT_EQ(usage["completion_tokens"], 12);
    EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 32) << last;
  }
}

TEST(TaskSink, opens_at_once_and_numbers_its_events) {
  const auto exchange = std::make_shared<RecordingExchange>();
  const auto sink = make_task_sink(exchange, kLimits);
  sink->opened(JobId{});
  EXPECT_TRUE(exchange->streaming);
  EXPECT_EQ(sink->event({1, StartedEvent{0, Duration{}}}), ReaderSink::Took::ok);
  EXPECT_EQ(exchange->body, "id: 1\nevent: started\ndata: {\"queue_position\":0,\"predicted_start_ms\":0}\n\n");
}

// The desk cuts the reader, forgets it and tells the core, which decides what becomes of the job.
TEST(ClientDesk, OC_JOB_1002_a_reader_behind_its_limit_is_cut_and_others_are_not) {
  std::vector<Event> to_core;
  ClientDesk desk([&](Event event) { to_core.push_back(std::move(event)); });
  const auto slow = std::make_shared<RecordingExchange>();
  const auto quick = std::make_shared<RecordingExchange>();
  const ReaderId first = desk.open(JobId{}, std::nullopt, std::nullopt, make_task_sink(slow, kLimits));
  const ReaderId second = desk.open(JobId{}, std::nullopt, std::nullopt, make_task_sink(quick, kLimits));
  to_core.clear();
  const auto event = std::make_shared<const StreamEvent>(token(std::string(kLimits.pending_bytes_max / 2, 'x')));
  for (int i = 0; i < 4; ++i) {
    desk.execute(Deliver{first, event});
    desk.execute(Deliver{second, event});
    quick->body.clear();  // read
  }
  EXPECT_TRUE(slow->aborted);
  EXPECT_LT(slow->body.size(), 2 * kLimits.pending_bytes_max);
  EXPECT_FALSE(quick->aborted);
  EXPECT_EQ(desk.readers(), 1U);
  ASSERT_EQ(to_core.size(), 1U);
  const auto& gone = std::get<ReaderGone>(to_core.front());
  EXPECT_EQ(gone.reader, first);
  EXPECT_TRUE(gone.overflowed);
}

TEST(ClientDesk, a_client_that_left_is_told_nothing_more) {
  std::vector<Event> to_core;
  ClientDesk desk([&](Event event) { to_core.push_back(std::move(event)); });
  const auto exchange = std::make_shared<RecordingExchange>();
  const ReaderId reader = desk.open(JobId{}, std::nullopt, std::nullopt, make_task_sink(exchange, kLimits));
  desk.gone(reader);
  desk.gone(reader);
  desk.execute(Deliver{reader, std::make_shared<const StreamEvent>(token("late"))});
  EXPECT_TRUE(exchange->body.empty());
  EXPECT_EQ(to_core.size(), 2U);  // OpenStream, one ReaderGone
}

}  // namespace
}  // namespace orch::gateway
