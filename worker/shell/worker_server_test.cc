#include "worker/shell/worker_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <limits>
#include <thread>

#include "worker/shell/worker_server_fixture.h"

namespace orch::worker {
namespace {

TEST_F(WorkerServerTest, GetInfo_tells_the_engine_and_the_process) {
  grpc::ClientContext context;
  v1::WorkerInfo info;
  ASSERT_TRUE(stub_->GetInfo(&context, {}, &info).ok());
  EXPECT_TRUE(info.ready());
  EXPECT_EQ(info.engine(), "manual");
  EXPECT_EQ(info.slots(), 4u);
  EXPECT_EQ(info.process_id(), std::to_string(::getpid()));
}

TEST_F(WorkerServerTest, L3_dispatch_without_a_lease_is_STALE_LEASE) {
  Reader reader(line(), request(1));
  v1::JobEvent event;
  ASSERT_TRUE(reader.next(&event));
  EXPECT_EQ(event.failure().code(), "STALE_LEASE");
  EXPECT_FALSE(reader.next(&event));
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(WorkerServerTest, L3_foreign_lease_secret_manager_or_incarnation_is_STALE_LEASE) {
  const auto manager = granted();
  v1::Dispatch secret = request(1);
  secret.mutable_fence()->set_secret(std::string(16, '\x08'));
  EXPECT_EQ(Reader(line(), secret).terminal(), "STALE_LEASE");
  v1::Dispatch foreign = request(1);
  foreign.mutable_fence()->set_manager_id(kOrch);
  EXPECT_EQ(Reader(line(), foreign).terminal(), "STALE_LEASE");
  v1::Dispatch inc = request(1);
  inc.mutable_fence()->mutable_inc()->set_counter(2);
  EXPECT_EQ(Reader(line(), inc).terminal(), "STALE_LEASE");
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(WorkerServerTest, L3_more_jobs_than_slots_is_SLOT_BUSY_and_the_same_attempt_DUPLICATE_ATTEMPT) {
  const auto manager = granted(1);
  Reader first(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  EXPECT_EQ(Reader(line(), request(2)).terminal(), "SLOT_BUSY");
  engine_.finish(dispatch(1), {.completion_tokens = 1});
  EXPECT_EQ(first.terminal(), "FINISHED");
  EXPECT_EQ(Reader(line(), request(1)).terminal(), "DUPLICATE_ATTEMPT");
  Reader again(line(), request(1, 2));
  ASSERT_TRUE(engine_.wait_submitted(2));
  engine_.finish(dispatch(1, 2), {});
  EXPECT_EQ(again.terminal(), "FINISHED");
}

TEST_F(WorkerServerTest, L6_a_dispatch_finds_no_slot_beyond_those_its_holder_knows_of) {
  const auto manager = granted(2);
  Reader first(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  v1::Dispatch second = request(2);
  second.set_lease_slots(1);
  EXPECT_EQ(Reader(line(), second).terminal(), "SLOT_BUSY");
  second.set_lease_slots(2);
  Reader admitted(line(), second);
  ASSERT_TRUE(engine_.wait_submitted(2));
  engine_.finish(dispatch(1), {});
  engine_.finish(dispatch(2), {});
  EXPECT_EQ(first.terminal(), "FINISHED");
  EXPECT_EQ(admitted.terminal(), "FINISHED");
}

TEST_F(WorkerServerTest, L4_an_expired_lease_admits_nothing) {
  Manager manager(*stub_, control_secret());
  manager.send(table(1, 2, 1));  // one millisecond
  ASSERT_TRUE(manager.read_version(1));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::string code;
  for (int job = 1; code != "STALE_LEASE" && std::chrono::steady_clock::now() < end; ++job) {
    engine_.on_submit([this](const GenerationRequest& seen) { engine_.finish(seen.id, {}); });
    code = Reader(line(), request(job)).terminal();
  }
  EXPECT_EQ(code, "STALE_LEASE");
}

TEST_F(WorkerServerTest, L5_a_running_job_without_heartbeats_stops_after_the_ttl) {
  Manager manager(*stub_, control_secret());
  manager.send(table(1, 2, 200));
  ASSERT_TRUE(manager.read_version(1));
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  EXPECT_EQ(reader.terminal(), "CANCELED");
}

TEST_F(WorkerServerTest, OC_WORKER_1003_tokens_come_in_order_with_one_terminal) {
  const auto manager = granted();
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  engine_.sink(dispatch(1))->started(3, 1);
  engine_.token(dispatch(1), 0, 40, "a");
  engine_.token(dispatch(1), 1, 41, "b");
  engine_.finish(dispatch(1), {.reason = FinishReason::length, .prompt_tokens = 3, .completion_tokens = 2});
  std::string text;
  std::vector<std::uint32_t> ids;
  v1::JobEvent event;
  int terminals = 0;
  while (reader.next(&event)) {
    EXPECT_EQ(terminals, 0);
    text += event.tokens().text();
    ids.insert(ids.end(), event.tokens().ids().begin(), event.tokens().ids().end());
    if (event.has_started()) EXPECT_EQ(event.started().prompt_tokens(), 3u);
    if (event.has_finished()) {
      ++terminals;
      EXPECT_EQ(event.finished().reason(), v1::FINISH_REASON_LENGTH);
      EXPECT_EQ(event.finished().usage().completion_tokens(), 2u);
    }
  }
  EXPECT_EQ(text, "ab");
  EXPECT_EQ(ids, (std::vector<std::uint32_t>{40, 41}));
  EXPECT_EQ(terminals, 1);
}

TEST_F(WorkerServerTest, OC_WORKER_1003_a_cancel_stops_the_engine_frees_the_slot_and_is_answered) {
  const auto manager = granted(1);
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  reader.cancel();
  EXPECT_TRUE(engine_.wait_canceled(1));
  EXPECT_EQ(reader.terminal(), "CANCELED");
  reader.cancel();  // it has crossed the terminal
  // Reports from before the job read the same; those of the next table are newer than the cancel.
  manager->send(table(2, 1));
  EXPECT_TRUE(manager->read_until(
      [](const v1::ControlReport& report) { return report.version_counter() == 2 && report.uses().empty(); }));
  Reader next(line(), request(2));
  EXPECT_TRUE(engine_.wait_submitted(2));
}

TEST_F(WorkerServerTest, OC_WORKER_1002_a_job_whose_holder_does_not_read_ends_in_SLOW_CONSUMER) {
  start({.listen = {}, .lifeline_fd = {}, .outbox_bytes_max = 64 * 1024});
  const auto manager = granted(1);
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  engine_.on_cancel([](const DispatchId&) {});  // the engine takes its time; nothing it still sends may grow the outbox
  const std::string text(16 * 1024, 'x');
  for (std::uint32_t index = 0; index < 4096; ++index) engine_.token(dispatch(1), index, index, text);
  ASSERT_TRUE(engine_.wait_canceled(1));
  engine_.fail(dispatch(1), {Outcome::CANCELED, "canceled", {}});
  EXPECT_EQ(reader.terminal(), "SLOW_CONSUMER");
}

TEST_F(WorkerServerTest, L5_the_end_of_a_holders_stream_stops_its_jobs) {
  for (const bool broken : {true, false}) {
    start({});
    const auto manager = granted();
    Reader reader(line(), request(broken ? 1 : 2));
    ASSERT_TRUE(engine_.wait_submitted(broken ? 1 : 2));
    const v1::ServeReply ack = line().beat(7);
    EXPECT_EQ(ack.beat(), 7u);
    EXPECT_EQ(ack.running(), 1u);
    if (broken) {
      line().cancel_stream();
    } else {
      line().half_close();
    }
    EXPECT_TRUE(engine_.wait_canceled(broken ? 1 : 2));
    EXPECT_EQ(line().finish().ok(), !broken);
  }
}

TEST_F(WorkerServerTest, OC_WORKER_1001_a_newer_stream_of_a_holder_ends_the_older_and_its_jobs) {
  const auto manager = granted();
  Line older(*stub_);
  Reader first(older, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  Line newer(*stub_);
  EXPECT_EQ(older.finish().error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_TRUE(engine_.wait_canceled(1));
  // The older one's end is no end of the newer one.
  Reader second(newer, request(2));
  ASSERT_TRUE(engine_.wait_submitted(2));
  EXPECT_EQ(newer.beat(3).running(), 1u);
  engine_.finish(dispatch(2), {});
  EXPECT_EQ(second.terminal(), "FINISHED");
}

TEST_F(WorkerServerTest, bad_requests_name_their_field) {
  const auto manager = granted();
  const auto field_of = [this](const v1::Dispatch& bad) {
    Reader reader(line(), bad);
    v1::JobEvent event;
    EXPECT_TRUE(reader.next(&event));
    EXPECT_EQ(event.failure().code(), "INVALID_PARAMS");
    return event.failure().field();
  };
  v1::Dispatch bad = request(1);
  bad.set_job_id("nonsense");
  EXPECT_EQ(field_of(bad), "job_id");
  bad = request(1);
  bad.set_max_tokens(0);
  EXPECT_EQ(field_of(bad), "max_tokens");
  bad = request(1);
  bad.clear_prompt();
  EXPECT_EQ(field_of(bad), "prompt");
  bad = request(1);
  bad.mutable_sampling()->set_temperature(-1);
  EXPECT_EQ(field_of(bad), "sampling.temperature");
  bad = request(1);
  bad.mutable_fence()->set_secret("short");
  EXPECT_EQ(field_of(bad), "fence.secret");
  bad = request(1, std::numeric_limits<std::uint32_t>::max());
  EXPECT_EQ(field_of(bad), "attempt");
  bad = request(1, std::numeric_limits<std::uint32_t>::max() - 1);
  EXPECT_EQ(field_of(bad), "attempt") << "what goes by this name inside the engine never gets an end of its own";
  Reader last(line(), request(1, std::numeric_limits<std::uint32_t>::max() - 2));
  EXPECT_TRUE(engine_.wait_submitted(1));
}

TEST_F(WorkerServerTest, CountTokens_asks_the_engine_and_names_a_missing_prompt) {
  grpc::ClientContext context;
  v1::CountTokensRequest count;
  count.mutable_prompt()->set_text("12345");
  v1::CountTokensReply reply;
  ASSERT_TRUE(stub_->CountTokens(&context, count, &reply).ok());
  EXPECT_EQ(reply.tokens(), 5u);
  grpc::ClientContext second;
  const grpc::Status status = stub_->CountTokens(&second, {}, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkerServerTest, stop_ends_running_jobs_with_POOL_UNREADY) {
  const auto manager = granted();
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  std::thread stopper([this] { server_->stop(); });
  EXPECT_EQ(reader.terminal(), "POOL_UNREADY");
  stopper.join();
}

}  // namespace
}  // namespace orch::worker
