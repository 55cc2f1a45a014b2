#include "orchestratord/shell/daemon.h"

#include <algorithm>
#include <csignal>
#include <deque>
#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/runtime/clock.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/grpc_end.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "common/runtime/process_start.h"
#include "common/runtime/signals.h"
#include "orchestratord/core/orchestrator.h"
#include "orchestratord/shell/client_desk.h"
#include "orchestratord/shell/grpc_api.h"
#include "orchestratord/shell/http_api.h"
#include "orchestratord/shell/journal_writer.h"
#include "orchestratord/shell/manager_links.h"
#include "orchestratord/shell/model_store.h"
#include "orchestratord/shell/probe.h"
#include "orchestratord/shell/tenants_json.h"
#include "orchestratord/shell/worker_calls.h"

namespace orch::gateway {
namespace {

// One unread message per stream, and room for ends, cancels and client calls ("Flow, health, edges").
constexpr std::size_t kMailboxCapacity = 64 * 1024;
// Clients push through a mailbox of their own: where they can fill it, Full is a refusal and not a bug.
constexpr std::size_t kClientMailboxCapacity = 4096;
constexpr Duration kLastAnswersMax = Duration::seconds(2);
constexpr std::size_t kEffectsKept = 1024;  // an effect is half a KiB
constexpr int kExitJournal = 78;
constexpr Duration kServerGrace = Duration::milliseconds(500);

FullPolicy policy_from(gateway_config::FullPolicy policy) {
  switch (policy) {
    case gateway_config::FullPolicy::reject:
      return FullPolicy::reject;
    case gateway_config::FullPolicy::drop_lru:
      return FullPolicy::drop_lru;
    case gateway_config::FullPolicy::shed_low_priority:
      return FullPolicy::shed_low_priority;
  }
  return FullPolicy::reject;
}

template <typename Configured>
TenantPolicy policy_of(const Configured& from) {
  TenantPolicy out;
  out.weight = from.weight;
  out.highest =
      from.highest_class == gateway_config::HighestClass::interactive ? Priority::interactive : Priority::batch;
  out.running_max = from.running_max;
  out.quotas.concurrent_jobs = from.concurrent_jobs;
  out.quotas.requests_per_second = from.requests_per_second;
  out.quotas.request_burst = from.request_burst;
  out.quotas.tokens_per_minute = from.tokens_per_minute;
  out.budget.tokens = static_cast<std::int64_t>(from.budget_tokens);
  out.budget.time = Duration::milliseconds(static_cast<std::int64_t>(from.budget_time_ms));
  out.budget.cost = static_cast<std::int64_t>(from.budget_cost_micros) * 1000;
  return out;
}

TenantsConfig tenants_config(const gateway_config::Config& config) {
  TenantsConfig out;
  out.defaults = policy_of(config.tenant_defaults);
  for (const auto& tenant : config.tenants) {
    out.tenants.push_back(policy_of(tenant));
    out.tenants.back().name = tenant.name;
  }
  out.dry_run = config.quotas.mode == gateway_config::QuotaMode::dry_run;
  out.gateways = config.quotas.gateways;
  return out;
}

BudgetConfig budget_config(const gateway_config::Config& config) {
  BudgetConfig out;
  out.ttl = Duration::milliseconds(config.sessions.ttl_ms);
  out.sessions_max = config.sessions.sessions_max;
  out.session.turns = config.sessions.turns;
  out.session.tokens = static_cast<std::int64_t>(config.sessions.tokens);
  out.session.time = Duration::milliseconds(static_cast<std::int64_t>(config.sessions.time_ms));
  out.session.cost = static_cast<std::int64_t>(config.sessions.cost_micros) * 1000;
  out.window = Duration::milliseconds(static_cast<std::int64_t>(config.budgets.window_ms));
  out.input_price = config.budgets.price_input_nanos;
  out.output_price = config.budgets.price_output_nanos;
  return out;
}

Config core_config(const gateway_config::Config& config, ModelStandings models, TenantsConfig tenants) {
  Config out;
  out.models = std::move(models);
  out.tenants = std::move(tenants);
  out.budgets = budget_config(config);
  switch (config.preemption.mode) {
    case gateway_config::PreemptionMode::disabled:
      out.preemption.mode = PreemptionMode::disabled;
      break;
    case gateway_config::PreemptionMode::soft:
      out.preemption.mode = PreemptionMode::soft;
      break;
    case gateway_config::PreemptionMode::hard:
      out.preemption.mode = PreemptionMode::hard;
      break;
  }
  out.preemption.per_minute = config.preemption.per_minute;
  out.preemption.per_job = config.preemption.per_job;
  out.queue.capacity = config.queue.capacity;
  out.queue.interactive_capacity = config.queue.interactive_capacity;
  out.queue.batch_capacity = config.queue.batch_capacity;
  out.queue.bytes_max = config.queue.bytes_max;
  out.queue.interactive_full_policy = policy_from(config.queue.interactive_full_policy);
  out.queue.batch_full_policy = policy_from(config.queue.batch_full_policy);
  out.limits.queue_wait_max = Duration::milliseconds(config.queue.wait_ms_max);
  out.limits.wall_max = Duration::milliseconds(config.watchdog.wall_ms);
  out.limits.first_token_max = Duration::milliseconds(config.watchdog.first_token_ms);
  out.limits.idle_max = Duration::milliseconds(config.watchdog.idle_ms);
  out.streams.reconnect_grace = Duration::milliseconds(config.streams.reconnect_grace_ms);
  out.streams.buffer_bytes_max = config.streams.buffer_bytes_max;
  // As SSE a token event takes about five times its place in the buffer.
  out.streams.replay_bytes = std::min<std::uint64_t>(out.streams.replay_bytes, config.streams.reader_bytes_max / 8);
  out.result_ttl = Duration::milliseconds(config.result_ttl_ms);
  out.limits.finished_max = static_cast<std::uint32_t>(config.results.jobs_max);
  out.limits.finished_bytes_max = static_cast<std::uint64_t>(config.results.bytes_max);
  out.managers = static_cast<std::uint32_t>(config.managers.size());
  out.journal.enabled = config.journal.enabled;
  out.journal.plain_openai = config.journal.plain_openai;
  out.journal.idempotency_ttl = Duration::milliseconds(config.journal.idempotency_ttl_ms);
  out.journal.idempotency_keys_max = static_cast<std::uint32_t>(config.journal.idempotency_keys_max);
  return out;
}

// OC-PLAT-1002. Out of files nothing could be accepted, not even a manager's word.
gateway_config::Config with_connections_that_fit(gateway_config::Config config) {
  const std::uint64_t limit = runtime::open_files_limit();
  const runtime::FilesForConnections fit = runtime::files_for_connections(limit);
  const auto lower = [limit](const char* server, std::uint64_t files, auto& connections_max) {
    if (connections_max <= files) return;
    runtime::log_warn(
        "connections_limited",
        {{"server", server}, {"connections_max", files}, {"configured", connections_max}, {"open_files_max", limit}});
    connections_max = static_cast<std::uint32_t>(std::max<std::uint64_t>(files, 1));
  };
  lower("http", fit.http, config.http.connections_max);
  lower("grpc", fit.grpc, config.grpc.connections_max);
  return config;
}

struct OpenedJournal {
  std::unique_ptr<JournalSqlite> file;  // null: switched off
  Recovered recovered;
};

Result<OpenedJournal, std::string> open_journal(const gateway_config::Config& config, const std::string& path) {
  OpenedJournal out;
  if (!config.journal.enabled) {
    std::error_code ignored;
    // OC-JOB-1015. Not ours to delete: it may be switched on again.
    if (std::filesystem::exists(path, ignored)) {
      runtime::log_error(
          "journal_left_behind",
          {{"file", path}, {"message", "the journal is switched off; delete the file, its prompts are kept for ever"}});
    }
    return out;
  }
  auto opened = JournalSqlite::open({.path = path,
                                     .bytes_max = static_cast<std::uint64_t>(config.journal.bytes_max),
                                     .result_ttl = Duration::milliseconds(config.result_ttl_ms),
                                     .idempotency_ttl = Duration::milliseconds(config.journal.idempotency_ttl_ms),
                                     .wall_ms = {}});
  if (!opened.ok()) return Err{opened.error().message};
  out.file = std::move(opened).value();
  auto found = out.file->recover();
  if (!found.ok()) return Err{"journal: " + found.error()};
  out.recovered = std::move(found).value();
  return out;
}

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

}  // namespace

struct Daemon::Parts {
  Parts(const gateway_config::Config& settings, runtime::StateDir dir, runtime::KeyRing key_ring, ModelStandings models,
        TenantsConfig tenants)
      : config(settings),
        state_dir(std::move(dir)),
        keys(std::move(key_ring)),
        holder{OrchId{state_dir.id()}, state_dir.boot()},
        core(core_config(config, std::move(models), std::move(tenants))),
        mailbox(loop, kMailboxCapacity, [this](std::vector<std::function<void()>>& tasks) { run_batch(tasks); }),
        client_mailbox(loop, kClientMailboxCapacity,
                       [this](std::vector<std::function<void()>>& tasks) { run_batch(tasks); }),
        timer(loop, [this] { handle(Tick{}); }),
        probe(core),
        desk([this](Event event) { handle(std::move(event)); }),
        managers(loop, holder, config.http.public_url, sender(mailbox),
                 [this](Event event) { handle(std::move(event)); }),
        workers(holder, sender(mailbox), [this](std::vector<Event> events) { handle_all(std::move(events)); }),
        http(loop, holder.orch, config, keys, core, desk,
             {.metrics_text = [this] { return probe.text(desk.readers(), managers.attached()); },
              .on_answered = [this](std::string_view route, int status) { probe.http_answered(route, status); }}),
        grpc(desk, keys, {.call = sender(client_mailbox), .news = sender(mailbox)}) {}

  using Tasks = runtime::LoopMailbox<std::function<void()>>;
  static std::function<bool(std::function<void()>)> sender(Tasks& box) {
    return [send = box.sender()](std::function<void()> task) { return send(std::move(task)) == runtime::Pushed::ok; };
  }
  void run_batch(std::vector<std::function<void()>>& tasks) {
    for (std::function<void()>& task : tasks) std::exchange(task, nullptr)();
  }
  void handle(Event event);
  void handle_all(std::vector<Event> events);
  void run_steps();
  void execute(const Effect& effect);
  std::optional<Failure> store(const std::string& file, const std::string& text);
  void store_models(const ModelsChanged& changed);
  void store_tenants(const TenantsReply& changed);
  void start_journal(std::unique_ptr<JournalSqlite> opened, Recovered recovered);
  void journal_answered(const JournalWriter::Answer& answer);
  void journal_found(const JournalWriter::Found& found);
  void end_clients();

  const gateway_config::Config config;
  runtime::StateDir state_dir;
  const runtime::KeyRing keys;
  const Holder holder;
  Orchestrator core;
  runtime::EventLoop loop;
  Tasks mailbox;
  Tasks client_mailbox;
  runtime::LoopTimer timer;
  Probe probe;
  ClientDesk desk;
  ManagerLinks managers;
  WorkerCalls workers;
  HttpApi http;
  GrpcApi grpc;
  std::unique_ptr<JournalWriter> journal;  // null: switched off
  std::unique_ptr<runtime::GrpcServer> grpc_server;
  std::unique_ptr<runtime::Signals> signals;
  std::deque<Event> waiting;  // events raised while a step's effects are executed
  Effects effects;            // of the step under way; its room is used again
  bool stepping = false;
};

void Daemon::Parts::handle(Event event) {
  waiting.push_back(std::move(event));
  run_steps();
}

void Daemon::Parts::handle_all(std::vector<Event> events) {
  for (Event& event : events) waiting.push_back(std::move(event));
  run_steps();
}

// Executing an effect may raise events at once; they wait until the step's own effects are done.
void Daemon::Parts::run_steps() {
  if (std::exchange(stepping, true)) return;
  while (!waiting.empty()) {
    const Event next = std::move(waiting.front());
    waiting.pop_front();
    effects.clear();
    core.step(next, runtime::now(), effects);
    for (const Effect& effect : effects) execute(effect);
  }
  stepping = false;
  if (effects.capacity() > kEffectsKept) Effects().swap(effects);
  timer.set(core.next_wakeup());
}

// Rare and small, so the loop waits for the disk: the answer must not be given before (OC-MODEL-1007, OC-TENANT-1007).
std::optional<Failure> Daemon::Parts::store(const std::string& file, const std::string& text) {
  const auto stored = state_dir.write_file(file, text, true);
  if (stored.ok()) return std::nullopt;
  Failure failure;
  failure.outcome = Outcome::INTERNAL;
  failure.message =
      "the change holds until the next restart only: " + Result<Ok, runtime::StateDir::Error>(stored).error().message;
  runtime::log_error("change_not_stored", {{"file", file}, {"message", failure.message}});
  return failure;
}

void Daemon::Parts::store_models(const ModelsChanged& changed) {
  desk.answer_models(changed.request,
                     changed.failure ? changed.failure : store(kModelsFile, standings_json(changed.standings)));
}

void Daemon::Parts::store_tenants(const TenantsReply& changed) {
  TenantsReply reply = changed;
  if (!reply.failure) reply.failure = store(kTenantsFile, stored_tenants_json(core.tenants().config()));
  desk.execute(reply);
}

void Daemon::Parts::execute(const Effect& effect) {
  std::visit(Overloaded{[this](const Dispatch& each) { workers.dispatch(each); },
                        [this](const CancelDispatch& each) { workers.cancel(each.dispatch); },
                        [this](const BeatWorker& each) { workers.beat(each.endpoint); },
                        [this](const ForgetWorker& each) { workers.forget(each.endpoint); },
                        [this](const CountTokens& each) { workers.count(each); },
                        [this](const SendUpdate& each) { managers.send(each); },
                        [this](const JournalWrite& each) {
                          if (journal) journal->write(each);  // else it is closed: the process is about to end
                        },
                        [this](const ReadJournal& each) {
                          if (journal) journal->read(each);  // likewise
                        },
                        [this](const ModelsChanged& each) { store_models(each); },
                        [this](const ModelsSettled& each) { store(kModelsFile, standings_json(each.standings)); },
                        [this](const TenantsReply& each) { store_tenants(each); },
                        [this](const SendFair& each) { managers.send(each); },
                        [this](const OperateReplica& each) { managers.send(each); },
                        [this](const Drained&) {
                          runtime::log_info("drained");
                          loop.stop();
                        },
                        [this](const auto& each) {
                          if constexpr (requires { probe.note(each); }) {
                            probe.note(each);
                          } else {
                            desk.execute(each);
                          }
                        }},
             effect);
}

// What an earlier life left comes before anything else, so that no client meets a gateway that does not know its tasks.
void Daemon::Parts::start_journal(std::unique_ptr<JournalSqlite> opened, Recovered recovered) {
  const auto send = sender(mailbox);
  // One per transaction, and one per write only where the disk has been given up on: Full is a bug.
  const auto on_answer = [this, send](JournalWriter::Answer answer) {
    const bool posted = send([this, answer = std::move(answer)] { journal_answered(answer); });
    ORCH_CHECK(posted);
  };
  // One per reader: likewise.
  const auto on_found = [this, send](JournalWriter::Found found) {
    const bool posted = send([this, found = std::move(found)] { journal_found(found); });
    ORCH_CHECK(posted);
  };
  journal = std::make_unique<JournalWriter>(std::move(opened), on_answer, on_found);
  handle(std::move(recovered));
}

void Daemon::Parts::journal_answered(const JournalWriter::Answer& answer) {
  probe.journal_answered({.refused = answer.refused.has_value(),
                          .records = answer.records,
                          .took = answer.took,
                          .file_bytes = answer.file_bytes});
  if (answer.refused)
    handle(JournalFailed{answer.first, answer.last, *answer.refused});
  else
    handle(JournalCommitted{answer.first, answer.last});
}

void Daemon::Parts::journal_found(const JournalWriter::Found& found) {
  if (found.fault) runtime::log_error("journal_unreadable", {{"reason", *found.fault}});
  handle(found.portion);
}

// The last events of the last step still wait for the loop, and calls that came too late for an answer: without this a
// drained job's `end` could be cut off, and the gRPC server would wait for reactors that nobody finishes.
void Daemon::Parts::end_clients() {
  runtime::LoopTimer bound(loop, [this] { loop.stop(); });
  bound.set(runtime::now() + kLastAnswersMax);
  http.drain([this] { loop.stop(); });
  loop.run();
  bound.set(Instant::never());
  grpc.close();
  runtime::shutdown_while_turning(loop, *grpc_server, kServerGrace);
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Daemon::~Daemon() = default;

Result<std::unique_ptr<Daemon>, Daemon::StartFailure> Daemon::start(const gateway_config::Config& config,
                                                                    runtime::StateDir state_dir,
                                                                    runtime::KeyRing keys) {
  if (!config.http.public_url.empty() && !is_public_url(config.http.public_url)) {
    return Err{StartFailure{78, "http.public_url: scheme, host and port expected, at most " +
                                    std::to_string(kPublicUrlBytesMax) + " bytes, not " + config.http.public_url}};
  }
  const auto http_address = runtime::parse_listen_address(config.http.listen);
  if (!http_address.ok()) return Err{StartFailure{78, "http.listen: " + http_address.error()}};
  const auto grpc_address = runtime::parse_listen_address(config.grpc.listen);
  if (!grpc_address.ok()) return Err{StartFailure{78, "grpc.listen: " + grpc_address.error()}};

  TenantsConfig tenants = tenants_config(config);
  if (const auto fault = check_tenants(tenants)) return Err{StartFailure{78, fault->message}};
  auto put = load_tenants(state_dir.path());
  if (!put.ok()) return Err{StartFailure{78, std::string(kTenantsFile) + ": " + put.error()}};
  if (put->has_value()) tenants = std::move(**put);

  auto journal = open_journal(config, state_dir.path() + "/journal.db");
  if (!journal.ok()) return Err{StartFailure{kExitJournal, journal.error()}};
  auto models = load_standings(state_dir.path());
  if (!models.ok()) return Err{StartFailure{78, std::string(kModelsFile) + ": " + models.error()}};
  auto parts = std::make_unique<Parts>(with_connections_that_fit(config), std::move(state_dir), std::move(keys),
                                       std::move(models).value(), std::move(tenants));
  if (journal->file) parts->start_journal(std::move(journal->file), std::move(journal->recovered));
  const auto http_port = parts->http.listen(*http_address);
  if (!http_port.ok())
    return Err{StartFailure{http_port.error().exit_code(), "http.listen: " + http_port.error().message}};
  auto server = runtime::GrpcServer::start(*grpc_address, {&parts->grpc.grpc_service()},
                                           {.connections_max = parts->config.grpc.connections_max});
  if (!server.ok()) return Err{StartFailure{server.error().exit_code(), "grpc.listen: " + server.error().message}};
  parts->grpc_server = std::move(server).value();
  if (!grpc_address->is_unix) {
    const auto written = parts->state_dir.write_port("grpc", static_cast<std::uint16_t>(parts->grpc_server->port()));
    if (!written.ok()) return Err{StartFailure{78, Result<Ok, runtime::StateDir::Error>(written).error().message}};
  }
  if (!http_address->is_unix) {
    const auto written = parts->state_dir.write_port("http", *http_port);
    if (!written.ok()) return Err{StartFailure{78, Result<Ok, runtime::StateDir::Error>(written).error().message}};
  }
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

void Daemon::run() {
  Parts& parts = *parts_;
  parts.signals = std::make_unique<runtime::Signals>(parts.loop, std::vector<int>{SIGTERM, SIGINT}, [&parts](int) {
    runtime::log_info("drain_begun", {{"deadline_ms", parts.config.drain_deadline_ms}});
    parts.handle(DrainBegin{Duration::milliseconds(parts.config.drain_deadline_ms)});
  });
  runtime::log_info("started", {{"orch_id", parts.holder.orch.to_string()}, {"boot", parts.holder.boot}});
  std::vector<std::string> endpoints;
  endpoints.reserve(parts.config.managers.size());
  for (const auto& manager : parts.config.managers) endpoints.push_back(manager.endpoint);
  parts.loop.post([&parts, endpoints] { parts.managers.start(endpoints); });
  parts.loop.run();
  parts.end_clients();
  parts.journal.reset();  // commits what is queued
  parts.workers.close();
  parts.managers.close();
  parts.http.close();
}

}  // namespace orch::gateway
