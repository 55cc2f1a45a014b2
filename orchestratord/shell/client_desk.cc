#include "orchestratord/shell/client_desk.h"

#include "common/base/check.h"

namespace orch::gateway {

Result<LetInPtr, Failure> ClientDesk::let_in(std::string tenant, std::optional<KeyDigest> key) {
  const RequestId request{next_++};
  to_core_(RequestHead{request, std::move(tenant), key});
  const auto answer = heads_.extract(request);
  ORCH_CHECK(!answer.empty());
  if (answer.mapped()) return Err{std::move(*answer.mapped())};
  return std::make_shared<LetIn>(
      request, [this] { return RequestId{next_++}; }, [this](RequestId dropped) { to_core_(RequestDropped{dropped}); });
}

void ClientDesk::execute(const HeadReply& effect) { heads_[effect.request] = effect.failure; }

void ClientDesk::submit(LetIn& let_in, JobSpec spec, OnAdmission on_admission) {
  const RequestId request = let_in.take();
  admissions_[request] = std::move(on_admission);
  to_core_(Submit{request, std::move(spec), std::nullopt});
}

ReaderId ClientDesk::submit_attached(LetIn& let_in, JobSpec spec, std::unique_ptr<ReaderSink> sink) {
  const RequestId request = let_in.take();
  const ReaderId reader{next_++};
  attached_[request] = reader;
  readers_[reader] = std::move(sink);
  to_core_(Submit{request, std::move(spec), reader});
  return reader;
}

ReaderId ClientDesk::open(JobId job, std::optional<std::uint64_t> last_event_id, Owner owner,
                          std::unique_ptr<ReaderSink> sink) {
  const ReaderId reader{next_++};
  readers_[reader] = std::move(sink);
  to_core_(OpenStream{reader, job, last_event_id, std::move(owner)});
  return reader;
}

void ClientDesk::cancel(JobId job, Owner owner, OnCancel on_cancel) {
  const RequestId request{next_++};
  cancels_[request] = std::move(on_cancel);
  to_core_(CancelJob{request, job, std::move(owner)});
}

void ClientDesk::end_session(std::string tenant, std::string session, OnCancel on_ended) {
  const RequestId request{next_++};
  cancels_[request] = std::move(on_ended);
  to_core_(EndSession{request, std::move(tenant), std::move(session)});
}

void ClientDesk::set_model_state(ModelKey model, ModelStanding to, OnModels on_models) {
  const RequestId request{next_++};
  models_[request] = std::move(on_models);
  to_core_(SetModelState{request, std::move(model), to});
}

void ClientDesk::roll_back_model(std::string name, OnModels on_models) {
  const RequestId request{next_++};
  models_[request] = std::move(on_models);
  to_core_(RollBackModel{request, std::move(name)});
}

void ClientDesk::answer_models(RequestId request, const std::optional<Failure>& failure) {
  const auto found = models_.find(request);
  if (found == models_.end()) return;
  const OnModels reply = std::move(found->second);
  models_.erase(found);
  reply(failure);
}

void ClientDesk::change_tenants(TenantsConfig config, OnTenants on_tenants) {
  const RequestId request{next_++};
  tenants_[request] = std::move(on_tenants);
  to_core_(TenantsChanged{request, std::move(config)});
}

void ClientDesk::gone(ReaderId reader) {
  if (readers_.erase(reader) > 0) to_core_(ReaderGone{reader, false});
}

ReaderSink* ClientDesk::find(ReaderId reader) const {
  const auto found = readers_.find(reader);
  return found == readers_.end() ? nullptr : found->second.get();
}

void ClientDesk::execute(const AdmissionReply& effect) {
  if (const auto found = attached_.find(effect.request); found != attached_.end()) {
    const ReaderId reader = found->second;
    attached_.erase(found);
    if (const auto* failure = std::get_if<Failure>(&effect.result)) {
      if (ReaderSink* sink = find(reader)) sink->refused(*failure);
      readers_.erase(reader);
    }
    return;
  }
  const auto found = admissions_.find(effect.request);
  if (found == admissions_.end()) return;
  const OnAdmission reply = std::move(found->second);
  admissions_.erase(found);
  reply(effect.result);
}

void ClientDesk::answer(RequestId request, bool found) {
  const auto waiting = cancels_.find(request);
  if (waiting == cancels_.end()) return;
  const OnCancel reply = std::move(waiting->second);
  cancels_.erase(waiting);
  reply(found);
}

void ClientDesk::execute(const CancelReply& effect) { answer(effect.request, effect.found); }

void ClientDesk::execute(const SessionEnded& effect) { answer(effect.request, effect.found); }

void ClientDesk::execute(const TenantsReply& effect) {
  const auto found = tenants_.find(effect.request);
  if (found == tenants_.end()) return;
  const OnTenants reply = std::move(found->second);
  tenants_.erase(found);
  reply(effect.failure);
}

void ClientDesk::execute(const StreamOpened& effect) {
  if (ReaderSink* sink = find(effect.reader)) sink->opened(effect.job);
}

void ClientDesk::execute(const StreamRefused& effect) {
  if (ReaderSink* sink = find(effect.reader)) sink->refused(effect.failure);
  readers_.erase(effect.reader);
}

void ClientDesk::execute(const Deliver& effect) {
  ReaderSink* sink = find(effect.reader);
  if (sink == nullptr || sink->event(*effect.event) == ReaderSink::Took::ok) return;
  cut(effect.reader, *sink);
}

// It fell behind: the core decides what becomes of the job (SLOW_CONSUMER).
void ClientDesk::cut(ReaderId reader, ReaderSink& sink) {
  sink.cut();
  readers_.erase(reader);
  to_core_(ReaderGone{reader, true});
}

void ClientDesk::execute(const CutReader& effect) {
  if (ReaderSink* sink = find(effect.reader)) cut(effect.reader, *sink);
}

void ClientDesk::execute(const AwaitReader& effect) {
  if (ReaderSink* sink = find(effect.reader)) {
    sink->when_drained([this, reader = effect.reader] {
      if (readers_.contains(reader)) to_core_(ReaderDrained{reader});
    });
  }
}

void ClientDesk::execute(const DeliverServedBy& effect) {
  if (ReaderSink* sink = find(effect.reader)) sink->served_by(*effect.served_by);
}

void ClientDesk::execute(const StreamClosed& effect) {
  if (ReaderSink* sink = find(effect.reader)) sink->closed();
  readers_.erase(effect.reader);
}

}  // namespace orch::gateway
