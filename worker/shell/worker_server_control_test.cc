#include <gtest/gtest.h>

#include "worker/shell/worker_server_fixture.h"

namespace orch::worker {
namespace {

TEST_F(WorkerServerTest, L7_a_revoked_lease_stops_its_jobs_with_WORKER_RESET) {
  const auto manager = granted();
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  manager->send(table(2, 0, 60'000, true));
  EXPECT_EQ(reader.terminal(), "WORKER_RESET");
}

TEST_F(WorkerServerTest, L2_only_a_higher_table_version_is_applied_and_each_table_is_answered) {
  Manager manager(*stub_, control_secret());
  manager.send(table(5, 2));
  ASSERT_TRUE(manager.read_version(5));
  manager.send(table(4, 0));
  v1::ControlReport report;
  ASSERT_TRUE(manager.read_until([](const auto&) { return true; }, &report));
  EXPECT_EQ(report.version_counter(), 5u);
  EXPECT_EQ(report.slots(), 4u);
  Reader reader(line(), request(1));  // the older table would have left no slot
  EXPECT_TRUE(engine_.wait_submitted(1));
}

TEST_F(WorkerServerTest, L2_control_needs_the_secret_of_the_lifeline) {
  Manager wrong(*stub_, std::string(16, 'x'));
  EXPECT_FALSE(wrong.read_until([](const auto&) { return true; }));
  EXPECT_EQ(wrong.end().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  Manager shorter(*stub_, control_secret().substr(0, 15));
  EXPECT_FALSE(shorter.read_until([](const auto&) { return true; }));
  EXPECT_EQ(shorter.end().error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(WorkerServerTest, a_table_before_hello_is_refused) {
  grpc::ClientContext context;
  auto stream = stub_->Control(&context);
  stream->Write(table(1, 2));
  v1::ControlReport report;
  EXPECT_FALSE(stream->Read(&report));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Reader(line(), request(1)).terminal(), "STALE_LEASE");
}

TEST_F(WorkerServerTest, another_incarnation_is_refused_and_a_newer_stream_of_the_same_replaces) {
  Manager first(*stub_, control_secret());
  ASSERT_TRUE(first.read_until([](const auto&) { return true; }));
  Manager other(*stub_, control_secret(), 2);
  EXPECT_EQ(other.end().error_code(), grpc::StatusCode::ALREADY_EXISTS);
  Manager again(*stub_, control_secret());
  ASSERT_TRUE(again.read_until([](const auto&) { return true; }));
  // The worker's end of it is awaited: whoever ends first himself is told that all is well.
  EXPECT_FALSE(first.read_until([](const auto&) { return false; }));
  EXPECT_EQ(first.end().error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(WorkerServerTest, L9_drain_refuses_dispatches_and_ends_running_jobs_at_its_deadline) {
  const auto manager = granted();
  Reader reader(line(), request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  v1::ControlRequest drain;
  drain.mutable_drain()->set_deadline_ms(100);
  manager->send(drain);
  EXPECT_EQ(reader.terminal(), "POOL_UNREADY");
  EXPECT_EQ(Reader(line(), request(2)).terminal(), "STALE_LEASE");
  EXPECT_TRUE(manager->read_until(
      [](const v1::ControlReport& report) { return report.has_drain_left_ms() && report.jobs_cut() == 1; }));
}

TEST_F(WorkerServerTest, self_check_runs_through_the_engine_and_is_reported) {
  engine_.on_submit([this](const GenerationRequest& seen) {
    engine_.token(seen.id, 0, 1, "x");
    if (seen.max_tokens == 1) engine_.finish(seen.id, {.completion_tokens = 1});
  });
  Manager manager(*stub_, control_secret());
  v1::ControlRequest check;
  check.mutable_self_check()->set_id(77);
  manager.send(check);
  v1::ControlReport report;
  ASSERT_TRUE(manager.read_until([](const v1::ControlReport& seen) { return seen.has_self_check(); }, &report));
  EXPECT_EQ(report.self_check().id(), 77u);
  EXPECT_TRUE(report.self_check().decoded());
  EXPECT_TRUE(report.self_check().cancel_freed());
  EXPECT_TRUE(report.self_check().counters_moved()) << report.self_check().detail();
}

}  // namespace
}  // namespace orch::worker
