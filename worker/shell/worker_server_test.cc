#include "worker/shell/worker_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "common/runtime/grpc_setup.h"
#include "orch/v1/worker.grpc.pb.h"
#include "worker/shell/manual_engine.h"

namespace orch::worker {
namespace {

constexpr const char* kSecretHex = "000102030405060708090a0b0c0d0e0f\n";
constexpr const char* kManager = "11111111-1111-4111-8111-111111111111";
constexpr const char* kOrch = "22222222-2222-4222-8222-222222222222";
const std::string kLeaseSecret(16, '\x07');

std::string control_secret() {
  std::string out;
  for (char byte = 0; byte < 16; ++byte) out.push_back(byte);
  return out;
}

std::string job_name(int number) {
  std::string out = "33333333-3333-4333-8333-000000000000";
  const std::string digits = std::to_string(number);
  return out.replace(out.size() - digits.size(), digits.size(), digits);
}

DispatchId dispatch(int number, std::uint32_t attempt = 1) {
  return {.job = {*Uuid::parse(job_name(number))}, .attempt = attempt};
}

struct TempFolder {
  TempFolder() {
    char name[] = "/tmp/orch-worker-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~TempFolder() { std::filesystem::remove_all(path); }
  std::string path;
};

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() { close_write(); }
  void say(const std::string& text) const {
    ASSERT_EQ(::write(write_end, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close_write() {
    if (write_end >= 0) ::close(write_end);
    write_end = -1;
  }
  int read_end = -1;  // given away to the server
  int write_end = -1;
};

// One Generate call, read on demand.
class Reader {
 public:
  Reader(v1::Worker::Stub& stub, const v1::GenerateRequest& request) : reader_(stub.Generate(&context_, request)) {}
  ~Reader() {
    context_.TryCancel();
    v1::GenerateEvent ignored;
    while (reader_->Read(&ignored)) {
    }
    if (!finished_) reader_->Finish();
  }
  bool next(v1::GenerateEvent* event) { return reader_->Read(event); }
  // Reads to the end; the code of the terminal, "FINISHED", or "NONE".
  std::string terminal() {
    v1::GenerateEvent event;
    std::string out = "NONE";
    while (reader_->Read(&event)) {
      if (event.has_failure()) out = out == "NONE" ? event.failure().code() : "TWICE";
      if (event.has_finished()) out = out == "NONE" ? "FINISHED" : "TWICE";
    }
    return out;
  }
  grpc::Status finish() {
    finished_ = true;
    return reader_->Finish();
  }
  void cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateEvent>> reader_;
  bool finished_ = false;
};

class Manager {
 public:
  Manager(v1::Worker::Stub& stub, const std::string& secret, std::uint64_t inc = 1) : stream_(stub.Control(&context_)) {
    v1::ControlRequest hello;
    hello.mutable_hello()->set_manager_id(kManager);
    hello.mutable_hello()->mutable_inc()->set_boot(1);
    hello.mutable_hello()->mutable_inc()->set_counter(inc);
    hello.mutable_hello()->set_control_secret(secret);
    stream_->Write(hello);
  }
  ~Manager() { end(); }
  grpc::Status end() {
    if (ended_) return grpc::Status::OK;
    ended_ = true;
    stream_->WritesDone();
    v1::ControlReport ignored;
    while (stream_->Read(&ignored)) {
    }
    return stream_->Finish();
  }
  void send(const v1::ControlRequest& request) { stream_->Write(request); }
  // Reads until a report satisfies the condition; false: the stream ended.
  template <typename Condition>
  bool read_until(Condition condition, v1::ControlReport* out = nullptr) {
    v1::ControlReport report;
    while (stream_->Read(&report)) {
      if (!condition(report)) continue;
      if (out != nullptr) *out = report;
      return true;
    }
    return false;
  }
  bool read_version(std::uint64_t counter) {
    return read_until([counter](const v1::ControlReport& report) { return report.version_counter() == counter; });
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ControlRequest, v1::ControlReport>> stream_;
  bool ended_ = false;
};

v1::Holder holder() {
  v1::Holder out;
  out.set_orch_id(kOrch);
  out.set_orch_boot(1);
  return out;
}

v1::ControlRequest table(std::uint64_t version, std::uint32_t slots, std::uint64_t ttl_ms = 60'000, bool stop = false) {
  v1::ControlRequest out;
  out.mutable_table()->set_version_boot(1);
  out.mutable_table()->set_version_counter(version);
  out.mutable_table()->set_ttl_ms(ttl_ms);
  auto* lease = out.mutable_table()->add_leases();
  lease->mutable_id()->set_boot(1);
  lease->mutable_id()->set_counter(5);
  *lease->mutable_holder() = holder();
  lease->set_slots(slots);
  lease->set_secret(kLeaseSecret);
  lease->set_renewal_seq(1);
  lease->set_stop(stop);
  return out;
}

v1::GenerateRequest request(int job, std::uint32_t attempt = 1) {
  v1::GenerateRequest out;
  out.mutable_fence()->set_manager_id(kManager);
  out.mutable_fence()->mutable_inc()->set_boot(1);
  out.mutable_fence()->mutable_inc()->set_counter(1);
  out.mutable_fence()->mutable_lease()->set_boot(1);
  out.mutable_fence()->mutable_lease()->set_counter(5);
  out.mutable_fence()->set_secret(kLeaseSecret);
  out.set_job_id(job_name(job));
  out.set_attempt(attempt);
  out.mutable_prompt()->set_text("hello");
  out.mutable_sampling()->set_top_p(1);
  out.set_max_tokens(8);
  *out.mutable_holder() = holder();
  return out;
}

class WorkerServerTest : public ::testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(WorkerServer::Options options) {
    server_.reset();
    pipe_ = std::make_unique<Pipe>();
    pipe_->say(kSecretHex);
    options.listen = "unix:" + folder_.path + "/w/worker.sock";
    options.lifeline_fd = pipe_->read_end;
    options.lifeline_lost = [] {};
    auto started = WorkerServer::start(engine_, options);
    ASSERT_TRUE(started.ok()) << started.error().message;
    server_ = std::move(started.value());
    stub_ = v1::Worker::NewStub(runtime::make_channel(server_->address()));
  }
  std::unique_ptr<Manager> granted(std::uint32_t slots = 2) {
    auto manager = std::make_unique<Manager>(*stub_, control_secret());
    manager->send(table(1, slots));
    EXPECT_TRUE(manager->read_version(1));
    return manager;
  }

  TempFolder folder_;
  ManualEngine engine_;
  std::unique_ptr<Pipe> pipe_;
  std::unique_ptr<WorkerServer> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
};

TEST_F(WorkerServerTest, GetInfo_tells_the_engine_and_the_process) {
  grpc::ClientContext context;
  v1::WorkerInfo info;
  ASSERT_TRUE(stub_->GetInfo(&context, {}, &info).ok());
  EXPECT_TRUE(info.ready());
  EXPECT_EQ(info.engine(), "manual");
  EXPECT_EQ(info.slots(), 4u);
  EXPECT_EQ(info.process_id(), std::to_string(::getpid()));
}

TEST_F(WorkerServerTest, L3_dispatch_without_a_lease_is_STALE_LEASE_and_echoes_the_fence) {
  Reader reader(*stub_, request(1));
  v1::GenerateEvent event;
  ASSERT_TRUE(reader.next(&event));
  EXPECT_EQ(event.failure().code(), "STALE_LEASE");
  EXPECT_EQ(event.fence().secret(), kLeaseSecret);
  EXPECT_EQ(event.fence().lease().counter(), 5u);
  EXPECT_FALSE(reader.next(&event));
  EXPECT_TRUE(reader.finish().ok());
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(WorkerServerTest, L3_foreign_lease_secret_manager_or_incarnation_is_STALE_LEASE) {
  const auto manager = granted();
  v1::GenerateRequest secret = request(1);
  secret.mutable_fence()->set_secret(std::string(16, '\x08'));
  EXPECT_EQ(Reader(*stub_, secret).terminal(), "STALE_LEASE");
  v1::GenerateRequest foreign = request(1);
  foreign.mutable_fence()->set_manager_id(kOrch);
  EXPECT_EQ(Reader(*stub_, foreign).terminal(), "STALE_LEASE");
  v1::GenerateRequest inc = request(1);
  inc.mutable_fence()->mutable_inc()->set_counter(2);
  EXPECT_EQ(Reader(*stub_, inc).terminal(), "STALE_LEASE");
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(WorkerServerTest, L3_more_jobs_than_slots_is_SLOT_BUSY_and_the_same_attempt_DUPLICATE_ATTEMPT) {
  const auto manager = granted(1);
  Reader first(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  EXPECT_EQ(Reader(*stub_, request(2)).terminal(), "SLOT_BUSY");
  engine_.finish(dispatch(1), {.completion_tokens = 1});
  EXPECT_EQ(first.terminal(), "FINISHED");
  EXPECT_EQ(Reader(*stub_, request(1)).terminal(), "DUPLICATE_ATTEMPT");
  Reader again(*stub_, request(1, 2));
  ASSERT_TRUE(engine_.wait_submitted(2));
  engine_.finish(dispatch(1, 2), {});
  EXPECT_EQ(again.terminal(), "FINISHED");
}

TEST_F(WorkerServerTest, L4_an_expired_lease_admits_nothing) {
  Manager manager(*stub_, control_secret());
  manager.send(table(1, 2, 1));  // one millisecond
  ASSERT_TRUE(manager.read_version(1));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::string code;
  for (int job = 1; code != "STALE_LEASE" && std::chrono::steady_clock::now() < end; ++job) {
    engine_.on_submit([this](const GenerationRequest& seen) { engine_.finish(seen.id, {}); });
    code = Reader(*stub_, request(job)).terminal();
  }
  EXPECT_EQ(code, "STALE_LEASE");
}

TEST_F(WorkerServerTest, L5_a_running_job_without_heartbeats_stops_after_the_ttl) {
  Manager manager(*stub_, control_secret());
  manager.send(table(1, 2, 200));
  ASSERT_TRUE(manager.read_version(1));
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  EXPECT_EQ(reader.terminal(), "CANCELED");
}

TEST_F(WorkerServerTest, tokens_come_in_order_with_one_terminal_and_every_event_carries_the_fence) {
  const auto manager = granted();
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  engine_.sink(dispatch(1))->started(3, 1);
  engine_.token(dispatch(1), 0, 40, "a");
  engine_.token(dispatch(1), 1, 41, "b");
  engine_.finish(dispatch(1), {.reason = FinishReason::length, .prompt_tokens = 3, .completion_tokens = 2});
  std::string text;
  std::vector<std::uint32_t> ids;
  v1::GenerateEvent event;
  int terminals = 0;
  while (reader.next(&event)) {
    EXPECT_EQ(event.fence().secret(), kLeaseSecret);
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
  EXPECT_TRUE(reader.finish().ok());
}

TEST_F(WorkerServerTest, a_caller_that_cancels_stops_the_engine_and_frees_the_slot) {
  const auto manager = granted(1);
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  reader.cancel();
  EXPECT_TRUE(engine_.wait_canceled(1));
  // Reports from before the job read the same; those of the next table are newer than the cancel.
  manager->send(table(2, 1));
  EXPECT_TRUE(manager->read_until(
      [](const v1::ControlReport& report) { return report.version_counter() == 2 && report.uses().empty(); }));
  Reader next(*stub_, request(2));
  EXPECT_TRUE(engine_.wait_submitted(2));
}

TEST_F(WorkerServerTest, a_reader_that_does_not_read_ends_in_SLOW_CONSUMER) {
  start({.listen = {}, .lifeline_fd = {}, .outbox_bytes_max = 64 * 1024});
  const auto manager = granted(1);
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  engine_.on_cancel([](const DispatchId&) {});  // the engine takes its time; nothing it still sends may grow the outbox
  const std::string text(16 * 1024, 'x');
  for (std::uint32_t index = 0; index < 4096; ++index) engine_.token(dispatch(1), index, index, text);
  ASSERT_TRUE(engine_.wait_canceled(1));
  engine_.fail(dispatch(1), {Outcome::CANCELED, "canceled", {}});
  EXPECT_EQ(reader.terminal(), "SLOW_CONSUMER");
}

TEST_F(WorkerServerTest, L5_the_break_of_the_newest_hold_stream_stops_the_holders_jobs) {
  const auto manager = granted();
  grpc::ClientContext old_context;
  auto old_stream = stub_->Hold(&old_context);
  v1::HoldBeat beat;
  *beat.mutable_holder() = holder();
  beat.set_seq(1);
  v1::HoldAck ack;
  ASSERT_TRUE(old_stream->Write(beat) && old_stream->Read(&ack));
  auto context = std::make_unique<grpc::ClientContext>();
  auto stream = stub_->Hold(context.get());
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  beat.set_seq(7);
  ASSERT_TRUE(stream->Write(beat) && stream->Read(&ack));
  EXPECT_EQ(ack.seq(), 7u);
  EXPECT_EQ(ack.running(), 1u);

  old_stream->WritesDone();  // replaced by a newer one: its end means nothing
  EXPECT_FALSE(old_stream->Read(&ack));
  EXPECT_TRUE(old_stream->Finish().ok());
  beat.set_seq(8);
  ASSERT_TRUE(stream->Write(beat) && stream->Read(&ack));
  EXPECT_EQ(ack.running(), 1u);

  context->TryCancel();
  EXPECT_FALSE(stream->Read(&ack));
  stream->Finish();
  EXPECT_EQ(reader.terminal(), "CANCELED");
}

TEST_F(WorkerServerTest, L7_a_revoked_lease_stops_its_jobs_with_WORKER_RESET) {
  const auto manager = granted();
  Reader reader(*stub_, request(1));
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
  Reader reader(*stub_, request(1));  // the older table would have left no slot
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
  EXPECT_EQ(Reader(*stub_, request(1)).terminal(), "STALE_LEASE");
}

TEST_F(WorkerServerTest, another_incarnation_is_refused_and_a_newer_stream_of_the_same_replaces) {
  Manager first(*stub_, control_secret());
  ASSERT_TRUE(first.read_until([](const auto&) { return true; }));
  Manager other(*stub_, control_secret(), 2);
  EXPECT_EQ(other.end().error_code(), grpc::StatusCode::ALREADY_EXISTS);
  Manager again(*stub_, control_secret());
  ASSERT_TRUE(again.read_until([](const auto&) { return true; }));
  EXPECT_EQ(first.end().error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(WorkerServerTest, L9_drain_refuses_dispatches_and_ends_running_jobs_at_its_deadline) {
  const auto manager = granted();
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  v1::ControlRequest drain;
  drain.mutable_drain()->set_deadline_ms(100);
  manager->send(drain);
  EXPECT_EQ(reader.terminal(), "POOL_UNREADY");
  EXPECT_EQ(Reader(*stub_, request(2)).terminal(), "STALE_LEASE");
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

TEST_F(WorkerServerTest, bad_requests_name_their_field) {
  const auto manager = granted();
  const auto field_of = [this](const v1::GenerateRequest& bad) {
    Reader reader(*stub_, bad);
    v1::GenerateEvent event;
    EXPECT_TRUE(reader.next(&event));
    EXPECT_EQ(event.failure().code(), "INVALID_PARAMS");
    return event.failure().field();
  };
  v1::GenerateRequest bad = request(1);
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
  Reader reader(*stub_, request(1));
  ASSERT_TRUE(engine_.wait_submitted(1));
  std::thread stopper([this] { server_->stop(); });
  EXPECT_EQ(reader.terminal(), "POOL_UNREADY");
  stopper.join();
}

TEST_F(WorkerServerTest, a_socket_in_use_or_open_to_others_is_a_typed_start_failure) {
  WorkerServer::Options options;
  options.listen = "unix:" + folder_.path + "/w/worker.sock";
  const auto twice = WorkerServer::start(engine_, options);
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().exit_code, kExitAddress);
  EXPECT_NE(twice.error().message.find("in use"), std::string::npos);

  const std::string open_folder = folder_.path + "/open";
  std::filesystem::create_directory(open_folder);
  ASSERT_EQ(::chmod(open_folder.c_str(), 0755), 0);
  options.listen = "unix:" + open_folder + "/worker.sock";
  const auto exposed = WorkerServer::start(engine_, options);
  ASSERT_FALSE(exposed.ok());
  EXPECT_NE(exposed.error().message.find("0700"), std::string::npos);

  options.listen = "0.0.0.0:0";
  const auto everywhere = WorkerServer::start(engine_, options);
  ASSERT_FALSE(everywhere.ok());
  EXPECT_EQ(everywhere.error().exit_code, kExitUsage);
}

TEST_F(WorkerServerTest, a_port_in_use_is_a_typed_start_failure_and_port_0_tells_the_real_one) {
  WorkerServer::Options options;
  options.listen = "127.0.0.1:0";
  const auto first = WorkerServer::start(engine_, options);
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_FALSE(first.value()->address().ends_with(":0"));
  options.listen = first.value()->address();
  const auto second = WorkerServer::start(engine_, options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().exit_code, kExitAddress);
}

TEST_F(WorkerServerTest, a_dead_socket_of_an_earlier_life_is_replaced) {
  const std::string path = folder_.path + "/w/worker.sock";
  server_.reset();
  std::filesystem::remove(path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);  // bound, never listened: what a killed process leaves behind
  start({});
}

TEST(WorkerServerWithoutLifeline, accepts_no_control_and_no_dispatch) {
  TempFolder folder;
  ManualEngine engine;
  WorkerServer::Options options;
  options.listen = "unix:" + folder.path + "/w/worker.sock";
  auto server = WorkerServer::start(engine, options);
  ASSERT_TRUE(server.ok()) << server.error().message;
  const auto stub = v1::Worker::NewStub(runtime::make_channel(server.value()->address()));
  Manager manager(*stub, "");
  EXPECT_EQ(manager.end().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Reader(*stub, request(1)).terminal(), "STALE_LEASE");
}

TEST(WorkerServerLifeline, L8_a_first_line_that_is_no_secret_is_a_start_failure) {
  for (const std::string line :
       {"", "short\n", "zz0102030405060708090a0b0c0d0e0f\n", "000102030405060708090a0b0c0d0e0f00\n"}) {
    TempFolder folder;
    ManualEngine engine;
    Pipe pipe;
    pipe.say(line);
    pipe.close_write();
    WorkerServer::Options options;
    options.listen = "unix:" + folder.path + "/w/worker.sock";
    options.lifeline_fd = pipe.read_end;
    EXPECT_FALSE(WorkerServer::start(engine, options).ok()) << line;
    ::close(pipe.read_end);
  }
}

}  // namespace
}  // namespace orch::worker
