// Purpose: the gRPC service Orchestrator: the same jobs and events as the task routes. Threads: service methods run on
// gRPC threads and only push to the loop through `Posts`; everything else loop only.
#pragma once

#include <functional>
#include <memory>

#include "common/runtime/key_ring.h"
#include "orchestratord/shell/client_desk.h"

namespace grpc {
class Service;
}

namespace orch::gateway {

class GrpcApi {
 public:
  using Post = std::function<bool(std::function<void()>)>;
  // Ways to the loop; false: full.
  struct Posts {
    Post call;  // new calls, which may be refused
    Post news;  // of streams that the loop has taken, two of each at most: a reader must not be left behind
                // (OC-JOB-1017)
  };
  GrpcApi(ClientDesk& desk, const runtime::KeyRing& keys, Posts posts);
  ~GrpcApi();
  GrpcApi(const GrpcApi&) = delete;
  GrpcApi& operator=(const GrpcApi&) = delete;

  grpc::Service& grpc_service();
  // The desk is not touched afterwards.
  void close();

 private:
  class Service;
  struct Shared;
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<Service> service_;
};

}  // namespace orch::gateway
