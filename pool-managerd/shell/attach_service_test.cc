// The gRPC surface over real sockets, with loops that the test turns by hand: what a client sees while the manager is
// behind, and after it has stopped.
#include "pool-managerd/shell/attach_service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/runtime/event_loop.h"
#include "common/runtime/grpc_end.h"
#include "common/runtime/grpc_setup.h"
#include "orch/v1/pool_manager.grpc.pb.h"

namespace orch::pool {
namespace {

constexpr std::size_t kRoom = 2;
constexpr std::size_t kRefusedStreams = 50;

// A mailbox whose consumer is the test's thread.
class HandLoop {
 public:
  explicit HandLoop(std::size_t room) : room_(room) {}
  bool post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() >= room_) return false;
    tasks_.push_back(std::move(task));
    changed_.notify_all();
    return true;
  }
  bool wait_for_tasks(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return tasks_.size() >= count; });
  }
  std::size_t waiting() {
    const std::lock_guard lock(mutex_);
    return tasks_.size();
  }
  // Until `done`; tasks may arrive meanwhile.
  void run_until(const std::atomic<bool>& done) {
    while (!done) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::milliseconds(20), [this] { return !tasks_.empty(); });
        if (tasks_.empty()) continue;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

 private:
  const std::size_t room_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
};

class AttachServiceTest : public ::testing::Test {
 protected:
  using Stream = grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachEvent>;
  struct Attached {
    grpc::ClientContext context;
    std::unique_ptr<Stream> stream;
  };

  void SetUp() override {
    auto server = runtime::GrpcServer::start({false, "", "127.0.0.1", 0}, {&service_.grpc_service()});
    ASSERT_TRUE(server.ok());
    server_ = std::move(server).value();
    stub_ = v1::PoolManager::NewStub(runtime::make_channel("127.0.0.1:" + std::to_string(server_->port())));
  }
  // As in the daemon, the loops turn until every call has ended: the server's end waits for them.
  void TearDown() override {
    if (!server_) return;
    std::atomic<bool> done = false;
    std::thread calls([&] { clients_.run_until(done); });
    std::thread links([&] { links_.run_until(done); });
    server_.reset();
    done = true;
    calls.join();
    links.join();
  }
  static void bound(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  }
  grpc::Status list() {
    grpc::ClientContext context;
    bound(context);
    v1::ListReplicasReply reply;
    return stub_->ListReplicas(&context, {}, &reply);
  }
  grpc::Status operate() {
    grpc::ClientContext context;
    bound(context);
    v1::GetOperationRequest request;
    request.set_operation_id("1.1");
    v1::StartOperationReply reply;
    return stub_->GetOperation(&context, request, &reply);
  }
  std::unique_ptr<Attached> attach() {
    auto out = std::make_unique<Attached>();
    bound(out->context);
    out->stream = stub_->Attach(&out->context);
    return out;
  }
  static grpc::Status end_of(Attached& attached) {
    v1::AttachEvent event;
    while (attached.stream->Read(&event)) {
    }
    return attached.stream->Finish();
  }

  HandLoop links_{3 * AttachService::kStreamsMax};  // a stream's beginning, one message and its end
  HandLoop clients_{kRoom};
  AttachService service_{ManagerId{},
                         1,
                         [this](std::function<void()> task) { return links_.post(std::move(task)); },
                         [this](std::function<void()> task) { return clients_.post(std::move(task)); },
                         {.on_event = [](const Event&) {},
                          .replicas = [] { return std::vector<ReplicaView>(); },
                          .operate = [](const StartOperation&, const AttachService::Replied&) {},
                          .operation = [](OperationId) { return std::optional<Operation>(); }}};
  std::unique_ptr<runtime::GrpcServer> server_;
  std::unique_ptr<v1::PoolManager::Stub> stub_;
};

// The calls' mailbox is full, the orchestrators' is another one: a flood of calls is refused, and nothing else is
// touched.
TEST_F(AttachServiceTest, a_full_mailbox_refuses_calls_with_RESOURCE_EXHAUSTED_and_attaches_orchestrators) {
  std::atomic<bool> done = false;
  std::vector<grpc::Status> inside(kRoom);
  std::vector<std::thread> callers;
  for (grpc::Status& status : inside) callers.emplace_back([this, &status] { status = list(); });
  EXPECT_TRUE(clients_.wait_for_tasks(kRoom));
  for (int i = 0; i < 50; ++i) {
    const grpc::Status refused = i % 2 == 0 ? list() : operate();
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  const auto attached = attach();
  EXPECT_TRUE(links_.wait_for_tasks(1)) << "the stream's beginning waits for the loop";
  std::thread loop([&] { clients_.run_until(done); });
  for (std::thread& caller : callers) caller.join();
  for (const grpc::Status& status : inside) EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(list().ok()) << "there is room again";
  done = true;
  loop.join();
  attached->context.TryCancel();
}

// A refused stream leaves nothing for the loop, else a flood of them could fill its mailbox.
TEST_F(AttachServiceTest, streams_beyond_the_bound_are_refused_without_the_loop) {
  std::vector<std::unique_ptr<Attached>> open;
  for (std::size_t i = 0; i < AttachService::kStreamsMax; ++i) open.push_back(attach());
  ASSERT_TRUE(links_.wait_for_tasks(AttachService::kStreamsMax));
  for (std::size_t i = 0; i < kRefusedStreams; ++i) {
    const auto refused = attach();
    refused->stream->Write({});
    EXPECT_EQ(end_of(*refused).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_EQ(links_.waiting(), AttachService::kStreamsMax);
  std::atomic<bool> done = false;
  std::thread loop([&] { links_.run_until(done); });
  for (const auto& each : open) each->context.TryCancel();
  for (const auto& each : open) EXPECT_FALSE(end_of(*each).ok());
  server_.reset();
  done = true;
  loop.join();
}

// Calls that came too late for an answer end typed, so that the server's shutdown does not wait for them.
TEST_F(AttachServiceTest, after_close_calls_end_with_UNAVAILABLE) {
  std::atomic<bool> done = false;
  service_.close();
  std::thread calls([&] { clients_.run_until(done); });
  std::thread links([&] { links_.run_until(done); });
  EXPECT_EQ(list().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(operate().error_code(), grpc::StatusCode::UNAVAILABLE);
  const auto late = attach();
  EXPECT_EQ(end_of(*late).error_code(), grpc::StatusCode::UNAVAILABLE);
  server_.reset();
  done = true;
  calls.join();
  links.join();
}

// The loop has stopped with a call in its mailbox: whoever ends the server must turn it, else both wait for ever.
TEST(ManagersEnd, OC_POOL_3057_a_call_that_waits_for_a_stopped_loop_is_answered) {
  runtime::EventLoop loop;
  runtime::LoopMailbox<std::function<void()>> box(loop, kRoom, [](std::vector<std::function<void()>>& tasks) {
    for (const std::function<void()>& task : tasks) task();
  });
  std::promise<void> waits;
  const AttachService::Post post = [send = box.sender(), &waits](std::function<void()> task) {
    const bool pushed = send(std::move(task)) == runtime::Pushed::ok;
    waits.set_value();  // there is one call
    return pushed;
  };
  AttachService service(ManagerId{}, 1, post, post, {});
  auto server = runtime::GrpcServer::start({false, "", "127.0.0.1", 0}, {&service.grpc_service()});
  ASSERT_TRUE(server.ok());
  const auto stub =
      v1::PoolManager::NewStub(runtime::make_channel("127.0.0.1:" + std::to_string(server.value()->port())));
  grpc::Status status;
  std::thread caller([&] {
    grpc::ClientContext context;
    v1::ListReplicasReply reply;
    status = stub->ListReplicas(&context, {}, &reply);
  });
  waits.get_future().wait();
  service.close();
  runtime::shutdown_while_turning(loop, *server.value(), Duration::seconds(20));
  caller.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace orch::pool
