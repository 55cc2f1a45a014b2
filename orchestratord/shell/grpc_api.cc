#include "orchestratord/shell/grpc_api.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <utility>

#include "common/runtime/grpc_serve.h"
#include "orch/v1/orchestrator.grpc.pb.h"
#include "orchestratord/shell/idempotency.h"
#include "orchestratord/shell/submit_request.h"

namespace orch::gateway {
namespace {

constexpr std::size_t kStreamOutboxMax = 4096;  // events waiting for a slow reader

grpc::Status status_of(const Failure& failure) {
  const OutcomeRow& row = outcome_row(failure.outcome);
  std::string text = std::string(row.code) + ": " + failure.message;
  if (!failure.field.empty() && failure.message.find(failure.field) == std::string::npos)
    text += " (field " + failure.field + ")";
  return {static_cast<grpc::StatusCode>(row.grpc_code), text};
}

// OC-CTRL-2077: what a refusal says beside its code and message, as HTTP's headers do.
void tell_trailing(grpc::CallbackServerContext& context, const Failure& failure) {
  if (failure.retry_after) {
    const std::int64_t ms = std::max<std::int64_t>(failure.retry_after->ms_ceil(), 0);
    context.AddTrailingMetadata("retry-after-ms", std::to_string(ms));
  }
  if (!failure.policy_label.empty()) context.AddTrailingMetadata("policy-label", failure.policy_label);
}

Failure not_found() {
  Failure out;
  out.outcome = Outcome::NOT_FOUND;
  out.message = "no such task";
  return out;
}

// The loop is behind: its own mailbox for clients is full.
grpc::Status busy() { return {grpc::StatusCode::RESOURCE_EXHAUSTED, "ADMISSION_REJECT: too many calls wait"}; }

grpc::Status shutting_down() { return {grpc::StatusCode::UNAVAILABLE, "POOL_UNREADY: the service is shutting down"}; }

std::string_view metadata_of(const grpc::CallbackServerContext& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  return found == context.client_metadata().end() ? std::string_view()
                                                  : std::string_view(found->second.data(), found->second.size());
}

class GrpcSink final : public ReaderSink {
 public:
  using Stream = runtime::WriteServe<v1::TaskEvent>;
  // `to_loop` takes what a gRPC thread found out; false: it cannot.
  using ToLoop = std::function<bool(std::function<void()>)>;
  GrpcSink(std::shared_ptr<Stream> stream, grpc::CallbackServerContext* context, ToLoop to_loop)
      : stream_(std::move(stream)), context_(context), to_loop_(std::move(to_loop)) {}

  void opened(JobId) override {}
  void served_by(const ServedBy& served_by) override { served_by_ = served_by; }
  Took event(const StreamEvent& event) override {
    return stream_->send(write_task_event(event, served_by_)) == runtime::Pushed::ok ? Took::ok : Took::overflow;
  }
  void refused(const Failure& failure) override {
    stream_->finish(status_of(failure), [context = context_, failure] { tell_trailing(*context, failure); });
  }
  void closed() override { stream_->finish(grpc::Status::OK); }
  void cut() override {
    stream_->finish(
        {grpc::StatusCode::RESOURCE_EXHAUSTED, "SLOW_CONSUMER: " + std::to_string(kStreamOutboxMax) +
                                                   " events are unread, or those that follow are not kept"});
  }

  void when_drained(std::function<void()> callback) override {
    stream_->once_idle([stream = stream_.get(), to_loop = to_loop_, callback = std::move(callback)] {
      if (!to_loop(callback)) stream->finish(busy());  // nothing more would ever come
    });
  }

 private:
  std::shared_ptr<Stream> stream_;
  grpc::CallbackServerContext* const context_;  // for the stream, which knows whether it is there still
  const ToLoop to_loop_;
  ServedBy served_by_;  // the last one
};

}  // namespace

namespace {

void write_admitted(const Admitted& admitted, v1::SubmitReply& reply) {
  reply.set_task_id(admitted.job.to_string());
  reply.set_queue_position(admitted.queue_position);
  reply.set_predicted_start_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(0, admitted.predicted_start.ms())));
  reply.set_estimated(admitted.estimated);
  if (admitted.on_time_probability) reply.set_on_time_probability(*admitted.on_time_probability);
  reply.set_repeated(admitted.repeated);
  write_budget(admitted.budget, *reply.mutable_budget());
}

// As over HTTP: rate and concurrency first, then what the message says (OC-ADMIT-1002).
void submit(ClientDesk& desk, const std::string& tenant, std::string_view key, const v1::SubmitRequest& request,
            const ClientDesk::OnAdmission& on_admission) {
  const auto let_in = desk.let_in(tenant, idempotency_key(key, tenant));
  if (!let_in.ok()) return on_admission(let_in.error());
  auto spec = read_submit_request(request);
  if (!spec.ok()) return on_admission(spec.error());
  spec->tenant = tenant;
  const auto idempotency = read_idempotency(key, tenant, key.empty() ? std::string() : request.SerializeAsString());
  if (!idempotency.ok()) return on_admission(idempotency.error());
  spec->idempotency = *idempotency;
  desk.submit(**let_in, std::move(spec).value(), on_admission);
}

}  // namespace

struct GrpcApi::Shared {
  Shared(ClientDesk& client_desk, const runtime::KeyRing& key_ring, Posts ways)
      : desk(&client_desk), keys(key_ring), posts(std::move(ways)) {}

  // nullopt: a key is missing or wrong.
  std::optional<runtime::KeyRing::Caller> caller_of(const grpc::CallbackServerContext& context) const {
    const auto& metadata = context.client_metadata();
    for (const char* name : {"authorization", "x-api-key"}) {
      const auto found = metadata.find(name);
      if (found == metadata.end()) continue;
      const std::string_view value(found->second.data(), found->second.size());
      auto caller = keys.identify(std::string_view(name) == "authorization" ? runtime::bearer_token(value) : value);
      if (caller) return caller;
    }
    return std::nullopt;
  }
  bool allowed(const grpc::CallbackServerContext& context) const { return keys.empty() || caller_of(context); }
  // OC-TENANT-1001: it follows from the key alone.
  std::string tenant_of(const grpc::CallbackServerContext& context) const {
    const auto caller = keys.empty() ? std::nullopt : caller_of(context);
    return caller ? caller->owner : JobSpec{}.tenant;
  }
  // OC-TENANT-1006: nullopt: an operator.
  ClientDesk::Owner owner_of(const grpc::CallbackServerContext& context) const {
    const auto caller = keys.empty() ? std::nullopt : caller_of(context);
    return caller && !caller->is_operator ? ClientDesk::Owner(caller->owner) : std::nullopt;
  }

  ClientDesk* desk;  // loop only; null once closed
  const runtime::KeyRing& keys;
  const Posts posts;
};

class GrpcApi::Service final : public v1::Orchestrator::CallbackService {
 public:
  explicit Service(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context, const v1::SubmitRequest* request,
                                   v1::SubmitReply* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (const auto refused = refuse(*context)) return finish(reactor, *refused);
    // Context, message and reply live until the call is finished.
    return post(reactor, [reactor, reply, context, request, tenant = shared_->tenant_of(*context)](ClientDesk& desk) {
      submit(desk, tenant, metadata_of(*context, "idempotency-key"), *request,
             [reactor, reply, context](const std::variant<Admitted, Failure>& result) {
               if (const auto* failure = std::get_if<Failure>(&result)) {
                 tell_trailing(*context, *failure);
                 return reactor->Finish(status_of(*failure));
               }
               write_admitted(std::get<Admitted>(result), *reply);
               reactor->Finish(grpc::Status::OK);
             });
    });
  }

  grpc::ServerWriteReactor<v1::TaskEvent>* Stream(grpc::CallbackServerContext* context,
                                                  const v1::StreamRequest* request) override {
    auto reading = std::make_shared<Reading>();
    const auto shared = shared_;
    // However it ended: the client left, or was told an end that the core does not know of.
    const auto on_done = [shared, reading] {
      if (!reading->posted) return;
      static_cast<void>(shared->posts.news([shared, reading] {
        reading->over = true;
        if (shared->desk != nullptr && reading->reader) shared->desk->gone(*reading->reader);
      }));
    };
    auto stream = GrpcSink::Stream::start({.on_cancel = {}, .on_done = on_done}, kStreamOutboxMax);
    const auto job = Uuid::parse(request->task_id());
    if (const auto refused = refuse(*context)) {
      stream->finish(*refused);
    } else if (!job) {
      stream->finish(status_of(not_found()));
    } else {
      const auto last = request->has_last_event_id() ? std::optional(request->last_event_id()) : std::nullopt;
      const auto open = [shared, stream, reading, last, context, owner = shared_->owner_of(*context),
                         id = JobId{*job}] {
        if (shared->desk == nullptr) return stream->finish(shutting_down());
        if (reading->over) return;
        const auto to_loop = [shared](std::function<void()> task) {
          return shared->posts.news([shared, task = std::move(task)] {
            if (shared->desk != nullptr) task();
          });
        };
        reading->reader = shared->desk->open(id, last, owner, std::make_unique<GrpcSink>(stream, context, to_loop));
      };
      reading->posted = true;
      if (!shared_->posts.call(open)) {
        reading->posted = false;
        stream->finish(busy());
      }
    }
    return stream.get();
  }

  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context, const v1::CancelRequest* request,
                                   v1::CancelReply*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (const auto refused = refuse(*context)) return finish(reactor, *refused);
    const auto job = Uuid::parse(request->task_id());
    if (!job) return finish(reactor, status_of(not_found()));
    return post(reactor, [reactor, owner = shared_->owner_of(*context), id = JobId{*job}](ClientDesk& desk) {
      desk.cancel(id, owner,
                  [reactor](bool found) { reactor->Finish(found ? grpc::Status::OK : status_of(not_found())); });
    });
  }

 private:
  // What is known of one stream's reader.
  struct Reading {
    std::atomic<bool> posted = false;  // to the loop; what is not costs it nothing
    std::optional<ReaderId> reader;    // loop only, like `over`: the news may come before the call
    bool over = false;
  };

  std::optional<grpc::Status> refuse(const grpc::CallbackServerContext& context) const {
    if (shared_->allowed(context)) return std::nullopt;
    return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "UNAUTHENTICATED: a key is missing or wrong");
  }
  static grpc::ServerUnaryReactor* finish(grpc::ServerUnaryReactor* reactor, const grpc::Status& status) {
    reactor->Finish(status);
    return reactor;
  }
  grpc::ServerUnaryReactor* post(grpc::ServerUnaryReactor* reactor, std::function<void(ClientDesk&)> task) {
    const bool posted = shared_->posts.call([shared = shared_, reactor, task = std::move(task)] {
      if (shared->desk == nullptr) return reactor->Finish(shutting_down());
      task(*shared->desk);
    });
    if (!posted) reactor->Finish(busy());
    return reactor;
  }

  std::shared_ptr<Shared> shared_;
};

GrpcApi::GrpcApi(ClientDesk& desk, const runtime::KeyRing& keys, Posts posts)
    : shared_(std::make_shared<Shared>(desk, keys, std::move(posts))), service_(std::make_unique<Service>(shared_)) {}

GrpcApi::~GrpcApi() = default;

grpc::Service& GrpcApi::grpc_service() { return *service_; }

void GrpcApi::close() { shared_->desk = nullptr; }

}  // namespace orch::gateway
