#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>

#include "orch/v1/pool_manager.grpc.pb.h"
#include "orch/v1/worker.grpc.pb.h"
#include "pool-managerd/test/manager_process.h"

namespace orch::pool {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kOrch[] = "00000000-0000-0000-0000-000000000001";
constexpr char kJob[] = "00000000-0000-0000-0000-0000000000aa";

// A blocking Attach stream, as an orchestrator would hold it.
class Orchestrator {
 public:
  explicit Orchestrator(const ManagerProcess& manager, std::uint64_t boot = 1, std::uint32_t major = 1)
      : stub_(v1::PoolManager::NewStub(grpc::CreateChannel(manager.target(), grpc::InsecureChannelCredentials()))) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    stream_ = stub_->Attach(&context_);
    v1::AttachRequest request;
    v1::AttachHello* hello = request.mutable_hello();
    hello->mutable_hello()->set_protocol_major(major);
    hello->mutable_holder()->set_orch_id(kOrch);
    hello->mutable_holder()->set_orch_boot(boot);
    stream_->Write(request);
  }
  ~Orchestrator() { context_.TryCancel(); }

  // The next event of that kind; skips others.
  v1::AttachEvent next(v1::AttachEvent::KindCase kind) {
    v1::AttachEvent event;
    while (stream_->Read(&event)) {
      if (event.kind_case() == kind) return event;
    }
    ADD_FAILURE() << "the stream ended: " << stream_->Finish().error_message();
    return {};
  }
  void bid() {
    v1::AttachRequest request;
    v1::HolderUpdate* update = request.mutable_update();
    update->set_seq(++seq_);
    update->add_bids()->set_pool_id("p");
    stream_->Write(request);
  }
  v1::Grant granted() { return next(v1::AttachEvent::kGrant).grant(); }
  grpc::Status finish() {
    v1::AttachEvent event;
    while (stream_->Read(&event)) {
    }
    return stream_->Finish();
  }
  v1::PoolManager::Stub& stub() { return *stub_; }

 private:
  std::unique_ptr<v1::PoolManager::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachEvent>> stream_;
  std::uint64_t seq_ = 0;
};

v1::Dispatch dispatch(const std::string& manager_id, const v1::Grant& grant) {
  v1::Dispatch request;
  v1::Fence* fence = request.mutable_fence();
  fence->set_manager_id(manager_id);
  *fence->mutable_inc() = grant.inc();
  *fence->mutable_lease() = grant.lease();
  fence->set_secret(grant.secret());
  request.set_job_id(kJob);
  request.set_attempt(1);
  request.mutable_prompt()->set_text("x");
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_top_p(1);
  request.set_max_tokens(3);
  return request;
}

// The last event of the dispatch, on a stream of its own.
v1::JobEvent run(const std::string& endpoint, const v1::Dispatch& dispatch, std::uint64_t boot = 1) {
  const auto stub = v1::Worker::NewStub(grpc::CreateChannel(endpoint, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto stream = stub->Serve(&context);
  v1::ServeRequest request;
  request.mutable_holder()->set_orch_id(kOrch);
  request.mutable_holder()->set_orch_boot(boot);
  *request.add_dispatches() = dispatch;
  request.mutable_dispatches(0)->set_number(1);
  stream->Write(request);
  v1::ServeReply reply;
  v1::JobEvent last;
  while (!last.has_finished() && !last.has_failure() && stream->Read(&reply)) {
    if (reply.events_size() > 0) last = reply.events(reply.events_size() - 1);
  }
  stream->WritesDone();
  while (stream->Read(&reply)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return last;
}

TEST(Attach, L2_a_grant_is_good_at_the_worker_the_moment_it_arrives) {
  ManagerProcess manager;
  manager.start();
  const std::string endpoint = manager.wait_ready()["endpoint"];
  Orchestrator orchestrator(manager);
  const v1::ManagerHello hello = orchestrator.next(v1::AttachEvent::kHello).hello();
  ASSERT_EQ(hello.replicas_size(), 1);
  EXPECT_EQ(hello.replicas(0).state(), v1::REPLICA_STATE_READY);
  EXPECT_EQ(hello.replicas(0).info().model_name(), "m");
  orchestrator.bid();
  const v1::Grant grant = orchestrator.granted();
  EXPECT_EQ(grant.slots(), 2u);
  EXPECT_EQ(grant.update_seq(), 1u);
  EXPECT_EQ(grant.ttl_ms(), 3000u);
  EXPECT_EQ(grant.secret().size(), 16u);
  const v1::JobEvent end = run(endpoint, dispatch(hello.manager_id(), grant));
  EXPECT_TRUE(end.has_finished()) << end.DebugString();
  const v1::JobEvent again = run(endpoint, dispatch(hello.manager_id(), grant));
  EXPECT_EQ(again.failure().code(), "DUPLICATE_ATTEMPT");
}

TEST(Attach, L3_a_fence_of_a_dead_incarnation_is_stale) {
  ManagerProcess manager;
  manager.start();
  const json first = manager.wait_ready();
  Orchestrator orchestrator(manager);
  const v1::ManagerHello hello = orchestrator.next(v1::AttachEvent::kHello).hello();
  orchestrator.bid();
  const v1::Grant grant = orchestrator.granted();
  ::kill(first["pid"].get<int>(), SIGKILL);
  const v1::Revoke revoke = orchestrator.next(v1::AttachEvent::kRevoke).revoke();
  EXPECT_TRUE(revoke.stop());
  EXPECT_EQ(revoke.lease().counter(), grant.lease().counter());
  const json second = manager.wait_replica([](const json& r) { return r["state"] == "ready" && r["restarts"] == 1; });
  const v1::Grant next = orchestrator.granted();
  EXPECT_GT(next.lease().counter(), grant.lease().counter());
  EXPECT_EQ(run(second["endpoint"], dispatch(hello.manager_id(), grant)).failure().code(), "STALE_LEASE");
  EXPECT_TRUE(run(second["endpoint"], dispatch(hello.manager_id(), next)).has_finished());
}

TEST(Attach, L7_a_newer_start_of_the_orchestrator_closes_the_older_stream) {
  ManagerProcess manager;
  manager.start();
  const std::string endpoint = manager.wait_ready()["endpoint"];
  Orchestrator old(manager, 1);
  const v1::ManagerHello hello = old.next(v1::AttachEvent::kHello).hello();
  old.bid();
  const v1::Grant grant = old.granted();
  Orchestrator young(manager, 2);
  young.next(v1::AttachEvent::kHello);
  young.bid();
  const v1::Grant next = young.granted();
  EXPECT_EQ(old.next(v1::AttachEvent::kRefused).refused().code(), "CONFLICT");
  EXPECT_EQ(run(endpoint, dispatch(hello.manager_id(), grant)).failure().code(), "STALE_LEASE");
  EXPECT_TRUE(run(endpoint, dispatch(hello.manager_id(), next), 2).has_finished());
  Orchestrator late(manager, 1);
  EXPECT_EQ(late.next(v1::AttachEvent::kRefused).refused().code(), "CONFLICT") << "an older boot is refused";
}

TEST(Attach, a_different_protocol_major_is_refused) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  Orchestrator orchestrator(manager, 1, 2);
  const v1::Failure refused = orchestrator.next(v1::AttachEvent::kRefused).refused();
  EXPECT_EQ(refused.field(), "hello.hello.protocol_major");
  EXPECT_EQ(orchestrator.finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(Attach, L9_a_drain_revokes_and_stops_the_replica) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  Orchestrator orchestrator(manager);
  orchestrator.next(v1::AttachEvent::kHello);
  orchestrator.bid();
  orchestrator.granted();
  grpc::ClientContext context;
  v1::StartOperationRequest request;
  request.set_kind(v1::OPERATION_KIND_DRAIN);
  request.set_replica_id("p-0");
  request.set_deadline_ms(5000);
  v1::StartOperationReply reply;
  ASSERT_TRUE(orchestrator.stub().StartOperation(&context, request, &reply).ok());
  EXPECT_FALSE(reply.has_failure());
  v1::GetOperationRequest of;
  of.set_operation_id(reply.operation().operation_id());
  EXPECT_FALSE(orchestrator.next(v1::AttachEvent::kRevoke).revoke().stop());
  manager.wait_replica([](const json& r) { return r["state"] == "stopped" && r["pid"] == 0; });
  grpc::ClientContext follow;
  v1::StartOperationReply ended;
  ASSERT_TRUE(orchestrator.stub().GetOperation(&follow, of, &ended).ok());
  EXPECT_EQ(ended.operation().state(), v1::OPERATION_STATE_SUCCEEDED);
  EXPECT_EQ(ended.operation().kind(), v1::OPERATION_KIND_DRAIN);
  grpc::ClientContext other;
  request.set_replica_id("q");
  v1::StartOperationReply refused;
  ASSERT_TRUE(orchestrator.stub().StartOperation(&other, request, &refused).ok());
  EXPECT_EQ(refused.failure().code(), "NOT_FOUND");
  EXPECT_EQ(refused.failure().field(), "replica_id");
  grpc::ClientContext list_context;
  v1::ListReplicasReply list;
  ASSERT_TRUE(orchestrator.stub().ListReplicas(&list_context, {}, &list).ok());
  ASSERT_EQ(list.replicas_size(), 1);
  EXPECT_EQ(list.replicas(0).state(), v1::REPLICA_STATE_STOPPED);
}

TEST(Attach, stop_with_an_attached_orchestrator_exits_0) {
  ManagerProcess manager;
  manager.start();
  manager.wait_ready();
  Orchestrator orchestrator(manager);
  orchestrator.next(v1::AttachEvent::kHello);
  manager.signal(SIGTERM);
  EXPECT_EQ(manager.wait(), 0);
}

}  // namespace
}  // namespace orch::pool
