#include "worker/shell/worker_service.h"

#include <utility>

#include "common/runtime/log.h"
#include "worker/shell/answer_run.h"
#include "worker/shell/control_stream.h"
#include "worker/shell/wire.h"

namespace orch::worker {
namespace {

constexpr std::size_t kQuestionsWaitingMax = 32;

grpc::Status to_status(const EngineFailure& failure) {
  const OutcomeRow& row = outcome_row(failure.outcome);
  v1::Failure details;
  wire::write_failure(failure, &details);
  return {static_cast<grpc::StatusCode>(row.grpc_code), details.code() + ": " + details.message(),
          details.SerializeAsString()};
}

class ControlCall final : public grpc::ServerBidiReactor<v1::ControlRequest, v1::ControlReport>, public ControlWriter {
 public:
  explicit ControlCall(const std::shared_ptr<WorkerState>& state)
      : stream_(std::make_shared<ControlStream>(state, *this)) {
    StartRead(&request_);
  }

  void write(const v1::ControlReport& report) override {
    report_ = report;
    StartWrite(&report_);
  }
  void finish(const std::optional<EngineFailure>& failure) override {
    Finish(failure ? to_status(*failure) : grpc::Status::OK);
  }

  void OnReadDone(bool ok) override {
    const std::shared_ptr<ControlStream> stream = stream_;
    if (!ok) return stream->peer_gone();
    if (stream->received(request_)) StartRead(&request_);
  }
  void OnWriteDone(bool ok) override { stream_->written(ok); }
  void OnCancel() override { stream_->peer_gone(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<ControlStream> stream_;
  v1::ControlRequest request_;
  v1::ControlReport report_;
};

class ServeCall final : public grpc::ServerBidiReactor<v1::ServeRequest, v1::ServeReply>, public ReplyWriter {
 public:
  ServeCall(const std::shared_ptr<WorkerState>& state, GenerationEngine& engine, std::shared_ptr<BurstGate> gate,
            const HolderStream::Limits& limits)
      : stream_(std::make_shared<HolderStream>(state, engine, *this, std::move(gate), limits)) {
    StartRead(&request_);
  }

  void write(const v1::ServeReply& reply) override { StartWrite(&reply); }
  void finish(const std::optional<EngineFailure>& failure) override {
    if (failure) runtime::log_warn("holder_stream_ended", {{"message", failure->message}});
    Finish(failure ? to_status(*failure) : grpc::Status::OK);
  }

  void OnReadDone(bool ok) override {
    const std::shared_ptr<HolderStream> stream = stream_;
    if (!ok) return stream->peer_gone();
    if (!stream->received(request_)) return;
    StartRead(&request_);
  }
  void OnWriteDone(bool ok) override { stream_->written(ok); }
  void OnCancel() override { stream_->peer_gone(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<HolderStream> stream_;
  v1::ServeRequest request_;
};

template <typename Answer, typename Reply>
class AnswerCall final : public grpc::ServerUnaryReactor, public AnswerWriter<Answer> {
 public:
  AnswerCall(const std::shared_ptr<WorkerState>& state, GenerationEngine& engine, Reply* reply)
      : run_(std::make_shared<AnswerRun<Answer>>(state, engine, *this)), reply_(reply) {}

  // `parsed`: what the engine's `submit` takes, or why it cannot be read.
  template <typename Dispatch, typename Submit>
  void begin(Result<Dispatch, EngineFailure> parsed, Submit submit) {
    const auto run = run_;  // a refusal may end and free this call before begin() returns
    if (!parsed.ok()) return run->refuse(parsed.error());
    Dispatch& dispatch = parsed.value();
    run->begin(dispatch.fence, dispatch.holder, dispatch.lease_slots, dispatch.request.id,
               [&](GenerationEngine& engine, std::shared_ptr<AnswerSink<Answer>> sink) {
                 (engine.*submit)(std::move(dispatch.request), std::move(sink));
               });
  }

  void answered(const Answer& answer) override {
    wire::write_answer(answer, reply_);
    Finish(grpc::Status::OK);
  }
  void failed(const EngineFailure& failure) override { Finish(to_status(failure)); }

  void OnCancel() override {
    run_->stop({.outcome = Outcome::CANCELED, .message = "the caller went away", .field = {}});
  }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<AnswerRun<Answer>> run_;
  Reply* reply_;
};

}  // namespace

BlockingQueue::BlockingQueue(std::size_t waiting_max) : waiting_max_(waiting_max), thread_([this] { run(); }) {}

BlockingQueue::~BlockingQueue() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool BlockingQueue::push(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() >= waiting_max_) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
  return true;
}

void BlockingQueue::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

WorkerService::WorkerService(std::shared_ptr<WorkerState> state, GenerationEngine& engine, std::size_t outbox_bytes_max)
    : state_(std::move(state)),
      engine_(engine),
      limits_{.outbox_bytes_max = outbox_bytes_max},
      gate_(std::make_shared<BurstGate>()),
      questions_(kQuestionsWaitingMax) {
  if (!engine_.on_burst_over([gate = gate_] { gate->over(); })) gate_ = nullptr;
}

grpc::ServerUnaryReactor* WorkerService::GetInfo(grpc::CallbackServerContext* context, const v1::GetInfoRequest*,
                                                 v1::WorkerInfo* reply) {
  wire::write_info(engine_.info(), reply);
  auto* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerBidiReactor<v1::ControlRequest, v1::ControlReport>* WorkerService::Control(grpc::CallbackServerContext*) {
  return new ControlCall(state_);
}

grpc::ServerBidiReactor<v1::ServeRequest, v1::ServeReply>* WorkerService::Serve(grpc::CallbackServerContext*) {
  return new ServeCall(state_, engine_, gate_, limits_);
}

grpc::ServerUnaryReactor* WorkerService::ask(grpc::CallbackServerContext* context,
                                             std::function<grpc::Status()> question) {
  auto* reactor = context->DefaultReactor();
  // OC-WORKER-1005.
  const bool queued = questions_.push([question = std::move(question), context, reactor] {
    reactor->Finish(context->IsCancelled() ? grpc::Status(grpc::StatusCode::CANCELLED, "the caller went away")
                                           : question());
  });
  if (!queued) {
    reactor->Finish(
        to_status({Outcome::SLOT_BUSY, "more than " + std::to_string(kQuestionsWaitingMax) + " questions wait", {}}));
  }
  return reactor;
}

grpc::ServerUnaryReactor* WorkerService::CountTokens(grpc::CallbackServerContext* context,
                                                     const v1::CountTokensRequest* request,
                                                     v1::CountTokensReply* reply) {
  return ask(context, [this, request, reply] {
    const auto prompt = wire::parse_prompt(request->prompt());
    if (!prompt.ok()) return to_status(prompt.error());
    const auto counted = engine_.count_tokens(*prompt);
    if (!counted.ok()) return to_status(counted.error());
    reply->set_tokens(counted.value().first);
    reply->set_estimated(counted.value().second);
    return grpc::Status::OK;
  });
}

// OC-ENGINE-1020.
grpc::ServerUnaryReactor* WorkerService::Tokenize(grpc::CallbackServerContext* context,
                                                  const v1::TokenizeRequest* request, v1::TokenizeReply* reply) {
  return ask(context, [this, request, reply] {
    const auto prompt = wire::parse_prompt(request->prompt());
    if (!prompt.ok()) return to_status(prompt.error());
    const auto tokens = engine_.tokenize(*prompt);
    if (!tokens.ok()) return to_status(tokens.error());
    reply->mutable_ids()->Add(tokens->ids.begin(), tokens->ids.end());
    if (request->with_pieces()) reply->mutable_pieces()->Add(tokens->pieces.begin(), tokens->pieces.end());
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* WorkerService::ApplyTemplate(grpc::CallbackServerContext* context,
                                                       const v1::ApplyTemplateRequest* request,
                                                       v1::ApplyTemplateReply* reply) {
  return ask(context, [this, request, reply] {
    v1::Prompt message;
    *message.mutable_chat() = request->chat();
    const auto prompt = wire::parse_prompt(message);
    if (!prompt.ok()) return to_status(prompt.error());
    auto text = engine_.apply_template(*prompt);
    if (!text.ok()) return to_status(text.error());
    reply->set_text(std::move(text).value());
    return grpc::Status::OK;
  });
}

// OC-ENGINE-1021.
grpc::ServerUnaryReactor* WorkerService::Score(grpc::CallbackServerContext*, const v1::ScoreRequest* request,
                                               v1::ScoreReply* reply) {
  auto* call = new AnswerCall<ScoreResult, v1::ScoreReply>(state_, engine_, reply);
  call->begin(wire::parse_score(*request), &GenerationEngine::score);
  return call;
}

// OC-ENGINE-1022.
grpc::ServerUnaryReactor* WorkerService::Embed(grpc::CallbackServerContext*, const v1::EmbedRequest* request,
                                               v1::EmbedReply* reply) {
  auto* call = new AnswerCall<EmbedResult, v1::EmbedReply>(state_, engine_, reply);
  call->begin(wire::parse_embed(*request), &GenerationEngine::embed);
  return call;
}

}  // namespace orch::worker
