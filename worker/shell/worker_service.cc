#include "worker/shell/worker_service.h"

#include <utility>

#include "worker/shell/answer_run.h"
#include "worker/shell/control_stream.h"
#include "worker/shell/job_stream.h"
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

class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateEvent>, public JobWriter {
 public:
  GenerateCall(const std::shared_ptr<WorkerState>& state, GenerationEngine& engine, std::size_t outbox_bytes_max,
               const v1::GenerateRequest& request)
      : stream_(std::make_shared<JobStream>(state, engine, *this, outbox_bytes_max)) {
    *event_.mutable_fence() = request.fence();
  }

  void begin(const v1::GenerateRequest& request) {
    const std::shared_ptr<JobStream> stream = stream_;  // a refusal may end and free this call before run() returns
    auto dispatch = wire::parse_dispatch(request);
    if (!dispatch.ok()) return stream->refuse(dispatch.error());
    stream->run(dispatch->fence, dispatch->holder, dispatch->lease_slots, std::move(dispatch->request));
  }

  void write(const TokenOutbox::Item& item, bool last) override {
    wire::write_item(item, &event_);
    if (last) {
      StartWriteAndFinish(&event_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&event_);
    }
  }
  void abandon() override { Finish(grpc::Status::CANCELLED); }

  void OnWriteDone(bool ok) override { stream_->written(ok); }
  void OnCancel() override { stream_->reader_gone(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<JobStream> stream_;
  v1::GenerateEvent event_;  // being written; the fence stays in it
};

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

// One beat, one ack, in turn: a holder that does not read its acks stops beating.
class HoldCall final : public grpc::ServerBidiReactor<v1::HoldBeat, v1::HoldAck> {
 public:
  explicit HoldCall(std::shared_ptr<WorkerState> state) : state_(std::move(state)) { StartRead(&beat_); }

  void OnReadDone(bool ok) override {
    if (!ok) return end(grpc::Status::OK);
    const auto holder = wire::parse_holder(beat_.holder());
    if (!holder.ok()) return end(to_status(holder.error()));
    if (stream_ == 0) {
      holder_ = *holder;
      stream_ = state_->open_hold(holder_);
    } else if (*holder != holder_) {
      return end(to_status({Outcome::INVALID_PARAMS, "holder: changed within one stream", "holder"}));
    }
    ack_.set_seq(beat_.seq());
    ack_.set_running(state_->heartbeat(holder_));
    StartWrite(&ack_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return end(grpc::Status::OK);
    StartRead(&beat_);
  }
  void OnDone() override { delete this; }

 private:
  void end(const grpc::Status& status) {
    if (stream_ != 0) state_->close_hold(holder_, stream_);
    Finish(status);
  }

  const std::shared_ptr<WorkerState> state_;
  v1::HoldBeat beat_;
  v1::HoldAck ack_;
  Holder holder_;
  std::uint64_t stream_ = 0;
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
      outbox_bytes_max_(outbox_bytes_max),
      questions_(kQuestionsWaitingMax) {}

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

grpc::ServerBidiReactor<v1::HoldBeat, v1::HoldAck>* WorkerService::Hold(grpc::CallbackServerContext*) {
  return new HoldCall(state_);
}

grpc::ServerWriteReactor<v1::GenerateEvent>* WorkerService::Generate(grpc::CallbackServerContext*,
                                                                     const v1::GenerateRequest* request) {
  auto* call = new GenerateCall(state_, engine_, outbox_bytes_max_, *request);
  call->begin(*request);
  return call;
}

grpc::ServerUnaryReactor* WorkerService::ask(grpc::CallbackServerContext* context,
                                             std::function<grpc::Status()> question) {
  auto* reactor = context->DefaultReactor();
  const bool queued = questions_.push([question = std::move(question), reactor] { reactor->Finish(question()); });
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
