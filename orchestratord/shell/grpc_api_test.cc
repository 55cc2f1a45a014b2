// The gRPC surface over real sockets, with a loop that the test turns by hand: what a client sees while the loop is
// behind, and after it has stopped.
#include "orchestratord/shell/grpc_api.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/runtime/grpc_setup.h"
#include "orch/v1/orchestrator.grpc.pb.h"

namespace orch::gateway {
namespace {

constexpr const char* kTask = "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10";
constexpr std::size_t kRoom = 2;

// A mailbox of two calls, and of all news, whose consumer is the test's thread.
class HandLoop {
 public:
  bool post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (calls_ >= kRoom) return false;
    ++calls_;
    tasks_.push_back({std::move(task), true});
    changed_.notify_all();
    return true;
  }
  bool news(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back({std::move(task), false});
    changed_.notify_all();
    return true;
  }
  bool wait_calls(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [this, count] { return calls_ == count; });
  }
  bool wait_news() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [this] { return tasks_.size() > calls_; });
  }
  // As two mailboxes may be emptied.
  void take_news_first() {
    const std::lock_guard lock(mutex_);
    std::deque<Task> calls;
    for (; tasks_.front().is_call; tasks_.pop_front()) calls.push_back(std::move(tasks_.front()));
    tasks_.insert(tasks_.end(), std::make_move_iterator(calls.begin()), std::make_move_iterator(calls.end()));
  }
  // Until `done`; tasks may arrive meanwhile.
  void run_until(const std::atomic<bool>& done) {
    while (!done) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::milliseconds(20), [this] { return !tasks_.empty(); });
        if (tasks_.empty()) continue;
        if (tasks_.front().is_call) --calls_;
        task = std::move(tasks_.front().run);
        tasks_.pop_front();
      }
      task();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  struct Task {
    std::function<void()> run;
    bool is_call = false;
  };
  std::deque<Task> tasks_;
  std::size_t calls_ = 0;  // among them
};

class GrpcApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = runtime::GrpcServer::start({false, "", "127.0.0.1", 0}, {&api_.grpc_service()});
    ASSERT_TRUE(server.ok());
    server_ = std::move(server).value();
    stub_ = v1::Orchestrator::NewStub(runtime::make_channel("127.0.0.1:" + std::to_string(server_->port())));
  }
  grpc::Status cancel() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::CancelRequest request;
    request.set_task_id(kTask);
    v1::CancelReply reply;
    return stub_->Cancel(&context, request, &reply);
  }
  grpc::Status stream() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::StreamRequest request;
    request.set_task_id(kTask);
    const auto reader = stub_->Stream(&context, request);
    v1::TaskEvent event;
    while (reader->Read(&event)) {
    }
    const grpc::Status status = reader->Finish();
    note_trailing(context);
    return status;
  }
  grpc::Status submit(const v1::SubmitRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::SubmitReply reply;
    const grpc::Status status = stub_->Submit(&context, request, &reply);
    note_trailing(context);
    return status;
  }
  void note_trailing(const grpc::ClientContext& context) {
    trailing_.clear();
    for (const auto& [name, value] : context.GetServerTrailingMetadata())
      trailing_.emplace(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
  }
  // What the core answers: a cancel finds no task, and a head hears head_answer_.
  void turn(const Event& event) {
    if (const auto* asked = std::get_if<CancelJob>(&event)) desk_.execute(CancelReply{asked->request, false});
    if (const auto* head = std::get_if<RequestHead>(&event)) desk_.execute(HeadReply{head->request, head_answer_});
    if (const auto* open = std::get_if<OpenStream>(&event)) opened(open->reader);
    if (const auto* drained = std::get_if<ReaderDrained>(&event)) desk_.execute(StreamClosed{drained->reader});
    if (std::holds_alternative<ReaderGone>(event)) gone_ = true;
    if (std::holds_alternative<RequestDropped>(event)) ++dropped_;
    if (std::holds_alternative<Submit>(event)) ++submitted_;
  }

  // A reader that is behind, while as many calls wait as there is room for.
  void opened(ReaderId reader) {
    if (stream_refusal_) return desk_.execute(StreamRefused{reader, *stream_refusal_});
    while (loop_.post([] {})) {
    }
    if (await_it_) desk_.execute(AwaitReader{reader});
    opened_ = true;
  }

  bool await_it_ = true;
  std::atomic<bool> opened_ = false;
  std::atomic<bool> gone_ = false;
  std::optional<Failure> head_answer_;
  std::optional<Failure> stream_refusal_;
  std::map<std::string, std::string> trailing_;  // of the last call
  int dropped_ = 0;
  int submitted_ = 0;

  HandLoop loop_;
  ClientDesk desk_{[this](const Event& event) { turn(event); }};
  runtime::KeyRing keys_;
  GrpcApi api_{desk_,
               keys_,
               {.call = [this](std::function<void()> task) { return loop_.post(std::move(task)); },
                .news = [this](std::function<void()> task) { return loop_.news(std::move(task)); }}};
  std::unique_ptr<runtime::GrpcServer> server_;
  std::unique_ptr<v1::Orchestrator::Stub> stub_;
};

// The clients' mailbox is full, the links' is another one: a flood of calls is refused and nothing else is touched.
TEST_F(GrpcApiTest, a_full_mailbox_refuses_calls_with_RESOURCE_EXHAUSTED_and_serves_those_inside) {
  std::atomic<bool> done = false;
  std::vector<grpc::Status> inside(kRoom);
  std::vector<std::thread> callers;
  for (grpc::Status& status : inside) callers.emplace_back([this, &status] { status = cancel(); });
  ASSERT_TRUE(loop_.wait_calls(kRoom));
  for (int i = 0; i < 50; ++i) {
    const grpc::Status refused = i % 2 == 0 ? cancel() : stream();
    ASSERT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    ASSERT_TRUE(refused.error_message().starts_with("ADMISSION_REJECT")) << refused.error_message();
  }
  std::thread loop([&] { loop_.run_until(done); });
  for (std::thread& caller : callers) caller.join();
  for (const grpc::Status& status : inside) EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(cancel().error_code(), grpc::StatusCode::NOT_FOUND) << "there is room again";
  done = true;
  loop.join();
}

// OC-ADMIT-1002, OC-ADMIT-1005: what the message says is looked at when its head was let in, and not before.
TEST_F(GrpcApiTest, OC_ADMIT_1002_rate_and_concurrency_come_before_what_a_message_says) {
  std::atomic<bool> done = false;
  const v1::SubmitRequest empty;  // no field of it is right
  Failure busy;
  busy.outcome = Outcome::ADMISSION_REJECT;
  busy.message = "the quota concurrent_jobs";
  head_answer_ = std::move(busy);
  std::thread loop([&] { loop_.run_until(done); });
  const grpc::Status full = submit(empty);
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << full.error_message();
  done = true;
  loop.join();
  EXPECT_EQ(dropped_, 0);

  head_answer_.reset();
  done = false;
  loop = std::thread([&] { loop_.run_until(done); });
  const grpc::Status bad = submit(empty);
  EXPECT_EQ(bad.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << bad.error_message();
  done = true;
  loop.join();
  EXPECT_EQ(dropped_, 1) << "its reservation goes back";
  EXPECT_EQ(submitted_, 0);
}

TEST_F(GrpcApiTest, OC_CTRL_2077_a_refusal_says_in_its_trailing_metadata_when_to_come_back) {
  using Trailing = std::map<std::string, std::string>;
  Failure refusal;
  refusal.outcome = Outcome::ADMISSION_REJECT;
  refusal.message = "no room";
  const auto told = [&](bool of_a_stream) {
    head_answer_ = stream_refusal_ = refusal;
    std::atomic<bool> done = false;
    std::thread loop([&] { loop_.run_until(done); });
    const grpc::Status status = of_a_stream ? stream() : submit({});
    done = true;
    loop.join();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    return trailing_;
  };
  for (const bool of_a_stream : {false, true}) {
    refusal.retry_after = std::nullopt;
    refusal.policy_label.clear();
    EXPECT_EQ(told(of_a_stream), Trailing{});
    refusal.retry_after = Duration{1'250'000'001};
    EXPECT_EQ(told(of_a_stream), (Trailing{{"retry-after-ms", "1251"}}));
    refusal.policy_label = "reject";
    EXPECT_EQ(told(of_a_stream), (Trailing{{"policy-label", "reject"}, {"retry-after-ms", "1251"}}));
  }
}

// OC-JOB-1017: the next portion comes whatever calls wait.
TEST_F(GrpcApiTest, OC_JOB_1017_a_reader_that_is_behind_goes_on_while_the_mailbox_is_full) {
  std::atomic<bool> done = false;
  std::thread loop([&] { loop_.run_until(done); });
  const grpc::Status status = stream();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OK) << status.error_message();
  done = true;
  loop.join();
  EXPECT_EQ(desk_.readers(), 0u);
}

TEST_F(GrpcApiTest, OC_JOB_1001_a_client_that_leaves_is_noticed_while_the_mailbox_is_full) {
  await_it_ = false;
  grpc::ClientContext context;
  v1::StreamRequest request;
  request.set_task_id(kTask);
  const auto reader = stub_->Stream(&context, request);
  loop_.run_until(opened_);
  EXPECT_EQ(desk_.readers(), 1u);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(loop_.wait_news());
  if (!::testing::Test::HasFailure()) loop_.run_until(gone_);
  EXPECT_EQ(desk_.readers(), 0u);
}

TEST_F(GrpcApiTest, OC_JOB_1001_a_client_whose_leaving_overtakes_its_call_opens_no_stream) {
  grpc::ClientContext context;
  v1::StreamRequest request;
  request.set_task_id(kTask);
  const auto reader = stub_->Stream(&context, request);
  EXPECT_TRUE(loop_.wait_calls(1));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(loop_.wait_news());
  loop_.take_news_first();
  std::atomic<bool> done = false;
  EXPECT_TRUE(loop_.post([&done] { done = true; }));
  loop_.run_until(done);
  EXPECT_FALSE(opened_);
  EXPECT_EQ(desk_.readers(), 0u);
}

TEST_F(GrpcApiTest, OC_PLAT_1002_a_connection_beyond_the_bound_is_closed_and_finds_room_when_another_goes) {
  server_.reset();
  auto bounded =
      runtime::GrpcServer::start({false, "", "127.0.0.1", 0}, {&api_.grpc_service()}, {.connections_max = 2});
  ASSERT_TRUE(bounded.ok());
  server_ = std::move(bounded).value();
  std::atomic<bool> done = false;
  std::thread loop([&] { loop_.run_until(done); });
  const auto connect = [this] { return runtime::make_channel("127.0.0.1:" + std::to_string(server_->port())); };
  const auto asked = [](const std::shared_ptr<grpc::Channel>& channel, bool patient) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    context.set_wait_for_ready(patient);
    v1::CancelRequest request;
    request.set_task_id(kTask);
    v1::CancelReply reply;
    return v1::Orchestrator::NewStub(channel)->Cancel(&context, request, &reply).error_code();
  };
  std::shared_ptr<grpc::Channel> first = connect();
  const std::shared_ptr<grpc::Channel> second = connect();
  const std::shared_ptr<grpc::Channel> third = connect();
  EXPECT_EQ(asked(first, false), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(asked(second, false), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(asked(third, false), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(asked(second, false), grpc::StatusCode::NOT_FOUND) << "who is inside is served";
  first.reset();
  EXPECT_EQ(asked(third, true), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(asked(connect(), false), grpc::StatusCode::UNAVAILABLE);
  done = true;
  loop.join();
}

TEST_F(GrpcApiTest, OC_PLAT_1002_a_connection_without_a_call_does_not_hold_its_place) {
  server_.reset();
  auto bounded = runtime::GrpcServer::start({false, "", "127.0.0.1", 0}, {&api_.grpc_service()},
                                            {.connections_max = 1, .idle_max = Duration::milliseconds(200)});
  ASSERT_TRUE(bounded.ok());
  server_ = std::move(bounded).value();
  std::atomic<bool> done = false;
  std::thread loop([&] { loop_.run_until(done); });
  const int silent = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(server_->port()));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(silent, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  // HTTP/2's preface and an empty SETTINGS frame: a client that is there.
  const std::string greeting("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
  ASSERT_EQ(::write(silent, greeting.data(), greeting.size()), static_cast<ssize_t>(greeting.size()));
  const timeval patience{20, 0};
  ::setsockopt(silent, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::array<char, 1024> said{};
  ssize_t got = 0;
  while ((got = ::read(silent, said.data(), said.size())) > 0) {
  }
  EXPECT_EQ(got, 0) << "the server has closed it";
  ::close(silent);
  done = true;
  loop.join();
}

// Calls that came too late for an answer end typed, so that the server's shutdown does not wait for them.
TEST_F(GrpcApiTest, after_close_calls_end_with_UNAVAILABLE) {
  std::atomic<bool> done = false;
  api_.close();
  std::thread loop([&] { loop_.run_until(done); });
  EXPECT_EQ(cancel().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(stream().error_code(), grpc::StatusCode::UNAVAILABLE);
  done = true;
  loop.join();
  server_->shutdown(Duration::seconds(20));
}

}  // namespace
}  // namespace orch::gateway
