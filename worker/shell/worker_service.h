// The gRPC face of the Worker service: reactors that only move messages between gRPC and JobStream, ControlStream and
// WorkerState. Threads: gRPC's, plus one for CountTokens, which may block. Ownership: shares the state; the engine must
// outlive it. Only .cc files of the shell include this.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "orch/v1/worker.grpc.pb.h"
#include "worker/shell/worker_state.h"

namespace orch::worker {

// Runs one blocking call after another; a bounded number waits.
class BlockingQueue {
 public:
  explicit BlockingQueue(std::size_t waiting_max);
  ~BlockingQueue();                       // what waits is run, then the thread ends
  bool push(std::function<void()> task);  // false: full

 private:
  void run();

  const std::size_t waiting_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool closed_ = false;
  std::thread thread_;
};

class WorkerService final : public v1::Worker::CallbackService {
 public:
  WorkerService(std::shared_ptr<WorkerState> state, GenerationEngine& engine, std::size_t outbox_bytes_max);

  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context, const v1::GetInfoRequest* request,
                                    v1::WorkerInfo* reply) override;
  grpc::ServerBidiReactor<v1::ControlRequest, v1::ControlReport>* Control(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<v1::HoldBeat, v1::HoldAck>* Hold(grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<v1::GenerateEvent>* Generate(grpc::CallbackServerContext* context,
                                                        const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context, const v1::CountTokensRequest* request,
                                        v1::CountTokensReply* reply) override;

 private:
  std::shared_ptr<WorkerState> state_;
  GenerationEngine& engine_;
  std::size_t outbox_bytes_max_;
  BlockingQueue counts_;
};

}  // namespace orch::worker
