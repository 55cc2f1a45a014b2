// Test fixture: a worker's server on a Unix socket with an engine that the test moves by hand, and the two sides that
// speak to it: a manager (Control) and an orchestrator (Serve). Threads: the test's own.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "common/runtime/grpc_setup.h"
#include "common/testing/temp_folder.h"
#include "orch/v1/worker.grpc.pb.h"
#include "worker/shell/manual_engine.h"
#include "worker/shell/worker_server.h"

namespace orch::worker {
inline constexpr const char* kSecretHex = "000102030405060708090a0b0c0d0e0f\n";
inline constexpr const char* kManager = "11111111-1111-4111-8111-111111111111";
inline constexpr const char* kOrch = "22222222-2222-4222-8222-222222222222";
inline const std::string kLeaseSecret(16, '\x07');

inline std::string control_secret() {
  std::string out;
  for (char byte = 0; byte < 16; ++byte) out.push_back(byte);
  return out;
}

inline std::string job_name(int number) {
  std::string out = "33333333-3333-4333-8333-000000000000";
  const std::string digits = std::to_string(number);
  return out.replace(out.size() - digits.size(), digits.size(), digits);
}

inline DispatchId dispatch(int number, std::uint32_t attempt = 1) {
  return {.job = {*Uuid::parse(job_name(number))}, .attempt = attempt};
}

using orch::testing::TempFolder;

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

inline v1::Holder holder() {
  v1::Holder out;
  out.set_orch_id(kOrch);
  out.set_orch_boot(1);
  return out;
}

// A holder's stream, read by whoever waits for an event of its own dispatch; events of others are kept for them.
class Line {
 public:
  explicit Line(v1::Worker::Stub& stub) : stream_(stub.Serve(&context_)) {
    v1::ServeRequest hello;
    *hello.mutable_holder() = holder();
    send(hello);
  }
  ~Line() {
    context_.TryCancel();
    finish();
  }
  std::uint64_t dispatch(v1::Dispatch message) {
    const std::uint64_t number = ++last_number_;
    message.set_number(number);
    v1::ServeRequest out;
    *out.add_dispatches() = std::move(message);
    send(out);
    return number;
  }
  void cancel(std::uint64_t number) {
    v1::ServeRequest out;
    out.add_cancels(number);
    send(out);
  }
  void send(const v1::ServeRequest& request) {
    if (!finished_) stream_->Write(request);
  }
  // The reply that answers it; nothing of the holder's runs when the stream has ended.
  v1::ServeReply beat(std::uint64_t seq) {
    v1::ServeRequest out;
    out.set_beat(seq);
    send(out);
    while (pull()) {
      if (last_.beat() == seq) return last_;
    }
    return {};
  }
  // False: the stream has ended.
  bool next(std::uint64_t number, v1::JobEvent* event) {
    while (events_[number].empty()) {
      if (!pull()) return false;
    }
    *event = std::move(events_[number].front());
    events_[number].pop_front();
    return true;
  }
  void cancel_stream() { context_.TryCancel(); }
  void half_close() { stream_->WritesDone(); }
  // Reads to the end.
  grpc::Status finish() {
    if (finished_) return grpc::Status::OK;
    finished_ = true;
    while (pull()) {
    }
    return stream_->Finish();
  }

 private:
  bool pull() {
    if (!stream_->Read(&last_)) return false;
    for (v1::JobEvent& event : *last_.mutable_events()) {
      const std::uint64_t number = event.number();
      EXPECT_FALSE(over_.contains(number)) << "an event behind the terminal of " << number;
      if (event.has_finished() || event.has_failure()) over_.insert(number);
      events_[number].push_back(std::move(event));
    }
    return true;
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ServeRequest, v1::ServeReply>> stream_;
  v1::ServeReply last_;
  std::uint64_t last_number_ = 0;
  std::map<std::uint64_t, std::deque<v1::JobEvent>> events_;
  std::set<std::uint64_t> over_;
  bool finished_ = false;
};

// One dispatch on a holder's stream.
class Reader {
 public:
  Reader(Line& line, const v1::Dispatch& message) : line_(line), number_(line.dispatch(message)) {}
  ~Reader() {
    if (!over_) cancel();
  }
  // False: nothing follows.
  bool next(v1::JobEvent* event) {
    if (over_ || !line_.next(number_, event)) return false;
    over_ = event->has_finished() || event->has_failure();
    return true;
  }
  // Reads to the end; the code of the terminal, "FINISHED", or "NONE".
  std::string terminal() {
    v1::JobEvent event;
    while (next(&event)) {
      if (event.has_failure()) return event.failure().code();
      if (event.has_finished()) return "FINISHED";
    }
    return "NONE";
  }
  void cancel() { line_.cancel(number_); }

 private:
  Line& line_;
  const std::uint64_t number_;
  bool over_ = false;
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

inline v1::ControlRequest table(std::uint64_t version, std::uint32_t slots, std::uint64_t ttl_ms = 60'000,
                                bool stop = false) {
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

inline v1::Dispatch request(int job, std::uint32_t attempt = 1) {
  v1::Dispatch out;
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
  return out;
}

class WorkerServerTest : public ::testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(WorkerServer::Options options) {
    line_.reset();
    server_.reset();
    pipe_ = std::make_unique<Pipe>();
    pipe_->say(kSecretHex);
    options.listen = "unix:" + folder_.path() + "/w/worker.sock";
    options.lifeline_fd = pipe_->read_end;
    options.lifeline_lost = [] {};
    auto started = WorkerServer::start(engine_, options);
    ASSERT_TRUE(started.ok()) << started.error().message;
    server_ = std::move(started.value());
    stub_ = v1::Worker::NewStub(runtime::make_channel(server_->address()));
  }
  // The holder's stream.
  Line& line() {
    if (!line_) line_ = std::make_unique<Line>(*stub_);
    return *line_;
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
  std::unique_ptr<Line> line_;
};

}  // namespace orch::worker
