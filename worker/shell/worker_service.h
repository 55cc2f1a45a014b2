// The gRPC face of the Worker service: reactors that only move messages between gRPC and HolderStream, ControlStream
// and WorkerState. Threads: gRPC's, plus one for questions about text, which may block. Ownership: shares the state;
// the engine must outlive it. Only .cc files of the shell include this.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "orch/v1/worker.grpc.pb.h"
#include "worker/shell/burst_gate.h"
#include "worker/shell/holder_stream.h"
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
  grpc::ServerBidiReactor<v1::ServeRequest, v1::ServeReply>* Serve(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context, const v1::CountTokensRequest* request,
                                        v1::CountTokensReply* reply) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeReply* reply) override;
  grpc::ServerUnaryReactor* ApplyTemplate(grpc::CallbackServerContext* context, const v1::ApplyTemplateRequest* request,
                                          v1::ApplyTemplateReply* reply) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context, const v1::ScoreRequest* request,
                                  v1::ScoreReply* reply) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                  v1::EmbedReply* reply) override;

 private:
  // `question` runs behind the others that wait, on a thread that may block; its status ends the call.
  grpc::ServerUnaryReactor* ask(grpc::CallbackServerContext* context, std::function<grpc::Status()> question);

  std::shared_ptr<WorkerState> state_;
  GenerationEngine& engine_;
  const HolderStream::Limits limits_;
  std::shared_ptr<BurstGate> gate_;  // null: the engine makes no bursts
  BlockingQueue questions_;
};

}  // namespace orch::worker
