// A holder's stream without gRPC: the test is the writer, the engine and the manager.
#include "worker/shell/holder_stream.h"

#include <gtest/gtest.h>

#include <array>

#include "worker/shell/wire.h"
#include "worker/shell/worker_server_fixture.h"

namespace orch::worker {
namespace {

class FakeWriter final : public ReplyWriter {
 public:
  void write(const v1::ServeReply& reply) override {
    EXPECT_FALSE(finished);
    EXPECT_FALSE(under_way) << "two writes at a time";
    under_way = true;
    replies.push_back(reply);
  }
  void finish(const std::optional<EngineFailure>& why) override {
    EXPECT_FALSE(finished);
    finished = true;
    failure = why;
  }

  std::vector<v1::ServeReply> replies;
  std::optional<EngineFailure> failure;
  bool under_way = false;
  bool finished = false;
};

class SilentControl final : public ControlLink {
 public:
  void report_due() override {}
  void self_checked(SelfCheckVerdict) override {}
  void replaced() override {}
};

class HolderStreamTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kSlots = 4;

  void SetUp() override {
    const auto opened = state_->open_control(control_secret(), ManagerId{*Uuid::parse(kManager)}, {1, 1},
                                             std::make_shared<SilentControl>());
    ASSERT_TRUE(opened.ok());
    const auto leases = wire::parse_table(table(1, kSlots).table());
    ASSERT_TRUE(leases.ok());
    state_->apply(*leases);
    open({});
  }
  void TearDown() override {
    if (!writer_->finished) stream_->peer_gone();
    written();
  }
  void open(const HolderStream::Limits& limits, std::shared_ptr<BurstGate> gate = nullptr) {
    if (stream_) stream_->peer_gone();
    writer_ = std::make_unique<FakeWriter>();
    stream_ = std::make_shared<HolderStream>(state_, engine_, *writer_, std::move(gate), limits);
  }
  static v1::ServeRequest hello() {
    v1::ServeRequest out;
    *out.mutable_holder() = holder();
    return out;
  }
  static void add(v1::ServeRequest& out, std::uint64_t number, int job) {
    *out.add_dispatches() = request(job);
    out.mutable_dispatches(out.dispatches_size() - 1)->set_number(number);
  }
  // Jobs 1 to `count` under the same numbers.
  void begin(int count) {
    v1::ServeRequest first = hello();
    for (int job = 1; job <= count; ++job) add(first, static_cast<std::uint64_t>(job), job);
    ASSERT_TRUE(stream_->received(first));
    ASSERT_EQ(engine_.submitted(), static_cast<std::size_t>(count));
  }
  void written() {
    if (std::exchange(writer_->under_way, false)) stream_->written(true);
  }
  const v1::ServeReply& reply(std::size_t at) const { return writer_->replies.at(at); }
  std::size_t replies() const { return writer_->replies.size(); }

  ManualEngine engine_;
  std::shared_ptr<WorkerState> state_ =
      std::make_shared<WorkerState>(engine_, WorkerState::Options{.control_secret = control_secret()});
  std::unique_ptr<FakeWriter> writer_;
  std::shared_ptr<HolderStream> stream_;
};

TEST_F(HolderStreamTest, OC_WORKER_1002_what_piles_up_behind_a_reply_leaves_as_one) {
  begin(2);
  engine_.token(dispatch(1), 0, 40, "a");
  ASSERT_EQ(replies(), 1u);
  engine_.token(dispatch(1), 1, 41, "b");
  engine_.token(dispatch(1), 2, 42, "c");
  engine_.token(dispatch(2), 0, 50, "x");
  engine_.finish(dispatch(2), {.completion_tokens = 1});
  EXPECT_EQ(replies(), 1u);
  written();
  ASSERT_EQ(replies(), 2u);
  ASSERT_EQ(reply(1).events_size(), 3);
  EXPECT_EQ(reply(1).events(0).number(), 1u);
  EXPECT_EQ(reply(1).events(0).tokens().text(), "bc");
  EXPECT_EQ(reply(1).events(1).number(), 2u);
  EXPECT_EQ(reply(1).events(1).tokens().text(), "x");
  EXPECT_EQ(reply(1).events(2).number(), 2u);
  EXPECT_TRUE(reply(1).events(2).has_finished());
  written();
  EXPECT_EQ(replies(), 2u);
}

TEST_F(HolderStreamTest, OC_WORKER_1002_a_burst_of_the_engine_leaves_as_one_reply) {
  const auto gate = std::make_shared<BurstGate>();
  open({}, gate);
  begin(3);
  for (int step = 0; step < 2; ++step) {
    const auto index = static_cast<std::uint32_t>(step);
    for (int job = 1; job <= 3; ++job) engine_.token(dispatch(job), index, 40, "a");
    EXPECT_EQ(replies(), static_cast<std::size_t>(step));
    gate->over();
    ASSERT_EQ(replies(), static_cast<std::size_t>(step) + 1);
    EXPECT_EQ(reply(static_cast<std::size_t>(step)).events_size(), 3);
    engine_.token(dispatch(1), index + 10, 41, "b");  // the next burst has begun when the write ends
    written();
    EXPECT_EQ(replies(), static_cast<std::size_t>(step) + 1);
    gate->over();
    written();
    writer_->replies.pop_back();
  }
}

TEST_F(HolderStreamTest, OC_WORKER_1002_a_full_outbox_ends_its_job_and_no_other) {
  open({.outbox_bytes_max = 64});
  begin(2);
  engine_.token(dispatch(1), 0, 40, "a");  // under way
  engine_.on_cancel([](const DispatchId&) {});
  for (std::uint32_t index = 1; index < 20; ++index) engine_.token(dispatch(1), index, 40, "a text");
  EXPECT_TRUE(engine_.wait_canceled(1));
  engine_.token(dispatch(2), 0, 50, "x");
  engine_.fail(dispatch(1), {Outcome::CANCELED, "canceled", {}});
  written();
  ASSERT_EQ(replies(), 2u);
  ASSERT_EQ(reply(1).events_size(), 3);
  EXPECT_EQ(reply(1).events(0).tokens().index(), 1u);
  EXPECT_EQ(reply(1).events(1).failure().code(), "SLOW_CONSUMER");
  EXPECT_EQ(reply(1).events(2).tokens().text(), "x");
  engine_.token(dispatch(2), 1, 51, "y");
  written();
  ASSERT_EQ(replies(), 3u);
  EXPECT_EQ(reply(2).events(0).tokens().text(), "y");
  engine_.finish(dispatch(2), {});  // a cancel would not end it here, and a job keeps its worker's state until it ends
}

TEST_F(HolderStreamTest, OC_WORKER_1002_much_of_one_job_costs_the_others_a_reply_at_most) {
  open({.outbox_bytes_max = 64 * 1024, .reply_bytes_enough = 1024});
  begin(2);
  engine_.sink(dispatch(1))->started(1, 0);  // under way
  engine_.token(dispatch(1), 0, 40, std::string(4096, 'a'));
  engine_.token(dispatch(2), 0, 50, "x");
  written();
  ASSERT_EQ(replies(), 2u);
  ASSERT_EQ(reply(1).events_size(), 1);
  EXPECT_EQ(reply(1).events(0).number(), 1u);
  engine_.token(dispatch(1), 1, 41, "b");
  engine_.finish(dispatch(1), {});
  written();
  ASSERT_EQ(replies(), 3u);
  ASSERT_EQ(reply(2).events_size(), 3);  // the other job first, then what the large one has had since
  EXPECT_EQ(reply(2).events(0).number(), 2u);
  EXPECT_EQ(reply(2).events(1).tokens().text(), "b");
  EXPECT_TRUE(reply(2).events(2).has_finished());
}

TEST_F(HolderStreamTest, OC_WORKER_1003_a_cancel_meets_the_dispatch_of_its_own_message) {
  v1::ServeRequest first = hello();
  add(first, 7, 1);
  first.add_cancels(7);
  ASSERT_TRUE(stream_->received(first));
  EXPECT_TRUE(engine_.wait_canceled(1));
  ASSERT_EQ(replies(), 1u);
  ASSERT_EQ(reply(0).events_size(), 1);
  EXPECT_EQ(reply(0).events(0).failure().code(), "CANCELED");
  EXPECT_TRUE(state_->idle());
  // Its terminal has crossed the second cancel.
  v1::ServeRequest again;
  again.add_cancels(7);
  EXPECT_TRUE(stream_->received(again));
  written();
  EXPECT_EQ(replies(), 1u);
}

TEST_F(HolderStreamTest, OC_WORKER_1003_a_cancelled_job_has_its_terminal_when_the_engine_has_let_go) {
  begin(1);
  engine_.on_cancel([](const DispatchId&) {});
  v1::ServeRequest cancel;
  cancel.add_cancels(1);
  ASSERT_TRUE(stream_->received(cancel));
  EXPECT_TRUE(engine_.wait_canceled(1));
  EXPECT_EQ(replies(), 0u);
  EXPECT_FALSE(state_->idle());
  engine_.fail(dispatch(1), {Outcome::CANCELED, "canceled", {}});
  ASSERT_EQ(replies(), 1u);
  EXPECT_EQ(reply(0).events(0).failure().code(), "CANCELED");
}

TEST_F(HolderStreamTest, OC_WORKER_1001_the_newest_heartbeat_is_answered_with_who_runs) {
  begin(2);
  v1::ServeRequest beat;
  for (const std::uint64_t seq : {1U, 2U, 3U}) {
    beat.set_beat(seq);
    ASSERT_TRUE(stream_->received(beat));
  }
  ASSERT_EQ(replies(), 1u);
  EXPECT_EQ(reply(0).beat(), 1u);
  EXPECT_EQ(reply(0).running(), 2u);
  written();
  ASSERT_EQ(replies(), 2u);
  EXPECT_EQ(reply(1).beat(), 3u);
  written();
  EXPECT_EQ(replies(), 2u);  // once each
}

TEST_F(HolderStreamTest, OC_WORKER_1004_a_job_that_had_its_terminal_is_open_no_more) {
  open({.jobs_max = 1});
  begin(1);
  engine_.finish(dispatch(1), {});
  written();
  v1::ServeRequest second;
  add(second, 2, 2);
  EXPECT_TRUE(stream_->received(second));
  EXPECT_TRUE(engine_.wait_submitted(2));
  v1::ServeRequest third;
  add(third, 3, 3);
  EXPECT_FALSE(stream_->received(third));
}

TEST_F(HolderStreamTest, OC_WORKER_1001_each_newer_stream_of_a_holder_ends_the_one_before) {
  std::array<FakeWriter, 3> writers;
  std::vector<std::shared_ptr<HolderStream>> streams;
  for (FakeWriter& writer : writers) {
    streams.push_back(std::make_shared<HolderStream>(state_, engine_, writer, nullptr, HolderStream::Limits{}));
    ASSERT_TRUE(streams.back()->received(hello()));
    if (streams.size() == 1) continue;
    const FakeWriter& before = writers.at(streams.size() - 2);
    ASSERT_TRUE(before.finished);
    EXPECT_EQ(before.failure->outcome, Outcome::CONFLICT);
  }
  EXPECT_FALSE(writers.back().finished);
  streams.back()->peer_gone();
}

TEST_F(HolderStreamTest, OC_WORKER_1004_a_peer_that_breaks_a_rule_loses_its_stream_and_its_jobs) {
  struct Case {
    std::string field;
    v1::ServeRequest request;
  };
  std::vector<Case> cases(8);
  cases[0].field = "holder.orch_id";
  cases[0].request.mutable_holder()->set_orch_id("nobody");
  cases[1].field = "holder";
  *cases[1].request.mutable_holder() = holder();
  cases[1].request.mutable_holder()->set_orch_boot(2);
  cases[2].field = "dispatches.number";
  add(cases[2].request, 0, 2);
  cases[3].field = "dispatches.number";
  add(cases[3].request, 5, 2);
  cases[4].field = "dispatches.number";
  add(cases[4].request, 4, 2);
  cases[5].field = "cancels";
  cases[5].request.add_cancels(6);
  cases[6].field = "cancels";
  cases[6].request.add_cancels(0);
  cases[7].field = "dispatches";
  for (int number = 6; number <= 8; ++number) add(cases[7].request, static_cast<std::uint64_t>(number), number);
  std::size_t canceled = 0;
  int job = 10;
  for (const Case& each : cases) {
    open({.jobs_max = 3});
    v1::ServeRequest first = hello();
    add(first, 5, ++job);
    ASSERT_TRUE(stream_->received(first));
    EXPECT_FALSE(stream_->received(each.request)) << each.field;
    written();
    ASSERT_TRUE(writer_->finished) << each.field;
    ASSERT_TRUE(writer_->failure.has_value());
    EXPECT_EQ(writer_->failure->outcome, Outcome::INVALID_PARAMS);
    EXPECT_EQ(writer_->failure->field, each.field);
    EXPECT_TRUE(engine_.wait_canceled(++canceled));
    EXPECT_TRUE(state_->idle()) << each.field;
    canceled = std::max<std::size_t>(canceled, each.field == "dispatches" ? 3 : 0);
  }
}

TEST_F(HolderStreamTest, OC_WORKER_1004_the_first_message_names_the_holder) {
  v1::ServeRequest first;
  first.set_beat(1);
  EXPECT_FALSE(stream_->received(first));
  ASSERT_TRUE(writer_->finished);
  EXPECT_EQ(writer_->failure->field, "holder.orch_id");
}

TEST_F(HolderStreamTest, L5_the_end_of_the_stream_stops_its_jobs_and_is_the_last_that_is_written) {
  begin(2);
  engine_.token(dispatch(1), 0, 40, "a");
  ASSERT_EQ(replies(), 1u);
  engine_.token(dispatch(2), 0, 50, "x");
  stream_->peer_gone();
  EXPECT_TRUE(engine_.wait_canceled(2));
  EXPECT_FALSE(writer_->finished);  // a write is under way
  written();
  EXPECT_TRUE(writer_->finished);
  EXPECT_FALSE(writer_->failure.has_value());
  EXPECT_EQ(replies(), 1u);
  EXPECT_TRUE(state_->idle());
}

// With "END" to stop at, "EN" becomes text when the end token comes. Whoever knows it knows the end: an attempt that
// goes on behind the last id would tell it again.
TEST_F(HolderStreamTest, M2_text_that_the_end_token_released_leaves_with_the_end) {
  open({.reply_bytes_enough = 1});
  begin(1);
  engine_.token(dispatch(1), 0, 40, "a");
  written();
  engine_.sink(dispatch(1))->tokens({1, {}, "EN"});
  v1::ServeRequest beat;
  beat.set_beat(7);
  ASSERT_TRUE(stream_->received(beat));
  ASSERT_EQ(replies(), 2u);
  EXPECT_EQ(reply(1).beat(), 7u);
  EXPECT_EQ(reply(1).events_size(), 0) << "its end could still be lost";
  written();
  engine_.finish(dispatch(1), {.completion_tokens = 1});
  ASSERT_EQ(replies(), 3u);
  ASSERT_EQ(reply(2).events_size(), 2);
  EXPECT_EQ(reply(2).events(0).tokens().text(), "EN");
  EXPECT_EQ(reply(2).events(0).tokens().index(), 1u);
  EXPECT_TRUE(reply(2).events(1).has_finished());
}

TEST_F(HolderStreamTest, M2_a_resumed_job_may_have_nothing_but_such_text) {
  v1::ServeRequest first = hello();
  add(first, 1, 1);
  first.mutable_dispatches(0)->add_resume_ids(40);
  ASSERT_TRUE(stream_->received(first));
  engine_.sink(dispatch(1))->tokens({1, {}, "EN"});
  EXPECT_EQ(replies(), 0u);
  engine_.finish(dispatch(1), {.completion_tokens = 1});
  ASSERT_EQ(replies(), 1u);
  EXPECT_EQ(reply(0).events_size(), 2);
}

TEST_F(HolderStreamTest, M2_text_of_engines_that_name_no_ids_waits_for_nothing) {
  begin(1);
  engine_.sink(dispatch(1))->tokens({0, {}, "a"});
  ASSERT_EQ(replies(), 1u);
  EXPECT_EQ(reply(0).events(0).tokens().text(), "a");
}

TEST_F(HolderStreamTest, M2_text_without_an_id_keeps_its_place_before_the_next_one) {
  begin(1);
  engine_.token(dispatch(1), 0, 40, "a");
  written();
  engine_.sink(dispatch(1))->tokens({1, {}, "b"});
  engine_.token(dispatch(1), 1, 41, "c");
  ASSERT_EQ(replies(), 2u);
  EXPECT_EQ(reply(1).events(0).tokens().text(), "bc");
  written();
  engine_.sink(dispatch(1))->tokens({2, {}, std::string(70'000, 'x')});
  EXPECT_EQ(replies(), 3u) << "what waits is bounded";
}

// An engine without work has no bursts: whoever waits for one must not live for it.
TEST_F(HolderStreamTest, OC_WORKER_1002_a_closed_stream_is_not_kept_for_the_next_burst) {
  const auto gate = std::make_shared<BurstGate>();
  open({}, gate);
  v1::ServeRequest bad = hello();
  add(bad, 1, 1);
  bad.mutable_dispatches(0)->set_max_tokens(0);
  ASSERT_TRUE(stream_->received(bad));
  ASSERT_EQ(reply(0).events(0).failure().code(), "INVALID_PARAMS");
  const std::weak_ptr<HolderStream> before = stream_;
  stream_->peer_gone();
  written();
  stream_.reset();
  EXPECT_TRUE(before.expired());
  gate->over();
  open({}, gate);
}

}  // namespace
}  // namespace orch::worker
