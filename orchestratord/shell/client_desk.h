// Purpose: who waits for what: requests for an admission or cancel reply, readers for events. Makes their ids and
// carries the core's effects to them. Threads: loop only; let_in wants its answer at once, so it is not called while an
// effect is executed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "common/base/result.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"
#include "orchestratord/shell/let_in.h"
#include "orchestratord/shell/reader_sink.h"

namespace orch::gateway {

class ClientDesk {
 public:
  using OnAdmission = std::function<void(const std::variant<Admitted, Failure>&)>;
  using OnCancel = std::function<void(bool found)>;
  using OnTenants = std::function<void(const std::optional<Failure>& failure)>;

  explicit ClientDesk(std::function<void(Event)> to_core) : to_core_(std::move(to_core)) {}

  // A request for a job by its head (OC-ADMIT-1005): refused, or let in until one of `submit` takes it.
  using KeyDigest = std::array<std::uint8_t, 32>;
  Result<LetInPtr, Failure> let_in(std::string tenant, std::optional<KeyDigest> key);

  void submit(LetIn& request, JobSpec spec, OnAdmission on_admission);
  // An attached job with its one reader; a refusal reaches the sink. The reader's id, for gone().
  ReaderId submit_attached(LetIn& request, JobSpec spec, std::unique_ptr<ReaderSink> sink);
  // Whose job it must be; nullopt: anybody's.
  using Owner = std::optional<std::string>;
  ReaderId open(JobId job, std::optional<std::uint64_t> last_event_id, Owner owner, std::unique_ptr<ReaderSink> sink);
  void cancel(JobId job, Owner owner, OnCancel on_cancel);
  void end_session(std::string tenant, std::string session, OnCancel on_ended);
  using OnModels = std::function<void(const std::optional<Failure>&)>;
  void set_model_state(ModelKey model, ModelStanding to, OnModels on_models);
  void roll_back_model(std::string name, OnModels on_models);
  void change_tenants(TenantsConfig config, OnTenants on_tenants);
  // The client of a reader has gone away; nothing more is told to its sink.
  void gone(ReaderId reader);

  void execute(const HeadReply& effect);
  void execute(const AdmissionReply& effect);
  void execute(const CancelReply& effect);
  void execute(const SessionEnded& effect);
  // After the change was stored, or with why not.
  void answer_models(RequestId request, const std::optional<Failure>& failure);
  void execute(const TenantsReply& effect);
  void execute(const StreamOpened& effect);
  void execute(const StreamRefused& effect);
  void execute(const Deliver& effect);
  void execute(const AwaitReader& effect);
  void execute(const CutReader& effect);
  void execute(const DeliverServedBy& effect);
  void execute(const StreamClosed& effect);

  std::size_t readers() const { return readers_.size(); }

 private:
  ReaderSink* find(ReaderId reader) const;
  void cut(ReaderId reader, ReaderSink& sink);
  void answer(RequestId request, bool found);

  const std::function<void(Event)> to_core_;
  std::map<RequestId, std::optional<Failure>> heads_;  // answered
  std::map<RequestId, OnAdmission> admissions_;
  std::map<RequestId, ReaderId> attached_;
  std::map<RequestId, OnCancel> cancels_;
  std::map<RequestId, OnModels> models_;
  std::map<RequestId, OnTenants> tenants_;
  std::map<ReaderId, std::unique_ptr<ReaderSink>> readers_;
  std::uint64_t next_ = 1;
};

}  // namespace orch::gateway
