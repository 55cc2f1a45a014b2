#include "pool-managerd/shell/daemon.h"

#include <csignal>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/clock.h"
#include "common/runtime/entropy.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/grpc_end.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "common/runtime/signals.h"
#include "pool-managerd/core/manager.h"
#include "pool-managerd/shell/admin_http.h"
#include "pool-managerd/shell/attach_service.h"
#include "pool-managerd/shell/generations.h"
#include "pool-managerd/shell/known_workers.h"
#include "pool-managerd/shell/operation_desk.h"
#include "pool-managerd/shell/probe.h"
#include "pool-managerd/shell/process_supervisor.h"
#include "pool-managerd/shell/worker_command.h"
#include "pool-managerd/shell/worker_links.h"

namespace orch::pool {
namespace {

// One unread message per stream, and room for exits and ends ("Flow, health, edges").
constexpr std::size_t kMailboxCapacity = 16 * 1024;
// Clients push through a mailbox of their own: where they can fill it, Full is a refusal and not a bug (OC-POOL-3057).
constexpr std::size_t kClientMailboxCapacity = 4096;
// After SIGTERM running jobs may finish for this long.
constexpr Duration kShutdownDrain = Duration::seconds(10);
constexpr Duration kHelloCheck = Duration::seconds(1);
constexpr Duration kServerGrace = Duration::milliseconds(500);

class KernelEntropy final : public EntropySource {
 public:
  std::uint64_t next_u64() override { return runtime::random_u64(); }
};

Status<Daemon::StartFailure> make_private_dir(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) std::filesystem::permissions(path, std::filesystem::perms::owner_all, error);
  if (error) return Err{Daemon::StartFailure{78, "state_dir: " + path + ": " + error.message()}};
  return Ok{};
}

}  // namespace

struct Daemon::Parts {
  Parts(const Config& config, runtime::StateDir dir, std::string program_dir)
      : state_dir(std::move(dir)),
        known(state_dir),
        commands(config, std::move(program_dir), std::filesystem::absolute(state_dir.path()).string()),
        generations(state_dir, settings_from(config, ManagerId{state_dir.id()}, state_dir.boot()).replicas),
        manager(first_settings(config), entropy),
        mailbox(loop, kMailboxCapacity, [this](std::vector<std::function<void()>>& tasks) { run_batch(tasks); }),
        client_mailbox(loop, kClientMailboxCapacity,
                       [this](std::vector<std::function<void()>>& tasks) { run_batch(tasks); }),
        timer(loop, [this] { handle(Tick{}); }),
        hello_timer(loop, [this] { expect_hellos(); }),
        probe(manager),
        links(manager.settings().manager, sender(mailbox), [this](const Event& event) { handle(event); }),
        attach(manager.settings().manager, state_dir.boot(), sender(mailbox), sender(client_mailbox),
               {.on_event = [this](const Event& event) { handle(event); },
                .replicas = [this] { return manager.replicas(runtime::now()); },
                .operate =
                    [this](StartOperation operation, OperationDesk::Replied replied) {
                      desk.start(std::move(operation), std::move(replied));
                    },
                .operation = [this](OperationId id) { return manager.operation(id); }}),
        desk([this](const Event& event) { handle(event); }),
        admin(loop, manager, desk, config.http.hosts, [this] { return probe.text(runtime::now()); }) {}

  Settings first_settings(const Config& config) const {
    Settings settings = settings_from(config, ManagerId{state_dir.id()}, state_dir.boot());
    settings.replicas = generations.current();
    return settings;
  }

  using Tasks = runtime::LoopMailbox<std::function<void()>>;
  static std::function<bool(std::function<void()>)> sender(Tasks& box) {
    return [send = box.sender()](std::function<void()> task) { return send(std::move(task)) == runtime::Pushed::ok; };
  }
  void run_batch(std::vector<std::function<void()>>& tasks) {
    for (std::function<void()>& task : tasks) std::exchange(task, nullptr)();
  }

  void expect_hellos() {
    attach.refuse_silent(runtime::now());
    hello_timer.set(runtime::now() + kHelloCheck);
  }
  void start_supervisor();
  void find_workers();
  void adopt_workers();
  void remove_dead_files() const;
  std::string endpoint_of(const std::string& replica_id, Incarnation inc) const {
    return "unix:" + commands.socket_path(replica_id, inc);
  }
  void handle(const Event& event);
  void begin_shutdown();

  void execute(const SpawnWorker& effect);
  void execute(const SignalWorker& effect);
  void execute(const ConnectWorker& effect) { links.connect(effect.inc, effect.wants_table); }
  void execute(const QueryInfo& effect) { links.query_info(effect.inc); }
  void execute(const SendTable& effect) { links.send(effect); }
  void execute(const SendSelfCheck& effect) { links.send(effect); }
  void execute(const SendDrain& effect) { links.send(effect); }
  void execute(const AttachWelcome& effect) { attach.send(effect); }
  void execute(const AttachRefused& effect) { attach.send(effect); }
  void execute(const ReplicaChanged& effect) { attach.send(effect); }
  void execute(const ReplicaLoaded& effect) { attach.send(effect); }
  void execute(const ReplicaGone& effect);
  void execute(const SendGrant& effect);
  void execute(const SendRevoke& effect);
  void execute(const SendOthers& effect) { attach.send(effect); }
  void execute(const SendGateways& effect) { attach.send(effect); }
  void execute(const SendEarlierOver& effect) { attach.send(effect); }
  void execute(const OperationReply& effect);
  void execute(const OperationEnded& effect);
  void execute(const ShutdownComplete& effect);
  void execute(const NotedState& effect);
  void execute(const NotedDrain& effect);
  void execute(const NotedFailure& effect);

  // Also of a replica that the step under way has removed.
  std::string pool_of(const std::string& replica_id) {
    for (const ReplicaSpec& spec : manager.specs()) pools.emplace(spec.replica_id, spec.pool_id);
    const auto pool = pools.find(replica_id);
    return pool == pools.end() ? std::string() : pool->second;
  }
  static SpawnWorker as_spawned(const ReplicaSpec& spec, Incarnation inc) {
    return {.replica_id = spec.replica_id,
            .inc = inc,
            .pool_id = spec.pool_id,
            .model = {.path = spec.model_path, .digest = spec.model_digest},
            .memory_sharers = spec.memory_sharers};
  }

  struct Process {
    std::string replica_id;
    Secret control_secret{};
    std::string command;  // digest
  };

  runtime::StateDir state_dir;
  KnownWorkers known;
  std::vector<std::pair<KnownWorker, int>> found;  // of an earlier start, alive; second: pidfd
  KernelEntropy entropy;
  WorkerCommands commands;
  Generations generations;
  Manager manager;
  std::map<std::string, std::string> pools;  // by replica; at most two replicas of a place
  runtime::EventLoop loop;
  Tasks mailbox;
  Tasks client_mailbox;
  runtime::LoopTimer timer;
  runtime::LoopTimer hello_timer;
  Probe probe;
  WorkerLinks links;
  AttachService attach;
  OperationDesk desk;
  AdminHttp admin;
  std::map<Incarnation, Process> processes;
  std::unique_ptr<ProcessSupervisor> supervisor;
  std::unique_ptr<runtime::GrpcServer> grpc_server;
  std::unique_ptr<runtime::Signals> signals;
  std::deque<Event> waiting;  // events raised while a step's effects are executed
  bool stepping = false;
  bool shutting_down = false;
};

void Daemon::Parts::start_supervisor() {
  const auto post = sender(mailbox);
  // Callbacks come on the supervisor's thread; a child's news is at most two messages.
  const auto must_post = [post](std::function<void()> task) {
    const bool posted = post(std::move(task));
    ORCH_CHECK(posted);
  };
  supervisor = std::make_unique<ProcessSupervisor>(
      ProcessSupervisor::Options{},
      ProcessSupervisor::Callbacks{
          .on_started =
              [this, must_post](Incarnation inc, std::int64_t pid) {
                must_post([this, inc, pid] {
                  const Process& process = processes.at(inc);
                  const std::string endpoint = endpoint_of(process.replica_id, inc);
                  known.remember({.replica_id = process.replica_id,
                                  .inc = inc,
                                  .pid = pid,
                                  .start_time = process_start_time(pid),
                                  .command = process.command,
                                  .control_secret = process.control_secret});
                  runtime::log_info("worker_started",
                                    {{"replica_id", process.replica_id}, {"inc", inc_text(inc)}, {"pid", pid}});
                  links.open(inc, endpoint, process.control_secret);
                  handle(ProcessStarted{.inc = inc, .pid = pid, .endpoint = endpoint});
                });
              },
          .on_failed =
              [this, must_post](Incarnation inc, const std::string& message, bool permanent) {
                must_post([this, inc, message, permanent] {
                  std::error_code ignored;
                  std::filesystem::remove(commands.output_path(processes.at(inc).replica_id, inc), ignored);
                  processes.erase(inc);
                  handle(SpawnFailed{.inc = inc, .message = message, .permanent = permanent});
                });
              },
          .on_exit =
              [this, must_post](const ChildExit& exit) {
                must_post([this, exit] {
                  const std::string replica_id = processes.at(exit.inc).replica_id;
                  runtime::log_info("worker_reaped", {{"replica_id", replica_id},
                                                      {"inc", inc_text(exit.inc)},
                                                      {"exit_code", exit.exit_code},
                                                      {"signal", exit.signal}});
                  links.close(exit.inc);
                  known.forget(exit.inc);
                  std::error_code ignored;
                  std::filesystem::remove(commands.socket_path(replica_id, exit.inc), ignored);
                  std::filesystem::remove(commands.output_path(replica_id, exit.inc), ignored);
                  processes.erase(exit.inc);
                  handle(ProcessExited{
                      .inc = exit.inc, .exit_code = exit.exit_code, .signal = exit.signal, .detail = exit.last_line});
                });
              }});
}

// L8: which of the workers that the last start wrote down still run and fit the configuration. The others end now,
// before anything is started in their place.
void Daemon::Parts::find_workers() {
  std::map<std::string, std::pair<KnownWorker, int>> newest;
  std::map<std::string, ReplicaSpec> specs;
  for (const ReplicaSpec& spec : manager.specs()) specs.emplace(spec.replica_id, spec);
  for (KnownWorker& worker : known.left_behind()) {
    const int pid_fd = open_process(worker);
    if (pid_fd < 0) continue;
    const auto spec = specs.find(worker.replica_id);
    const bool fits = spec != specs.end() && worker.inc.boot < state_dir.boot() &&
                      !newest.contains(worker.replica_id) &&
                      worker.command == command_digest(commands.arguments(as_spawned(spec->second, worker.inc)));
    if (fits) {
      std::string replica_id = worker.replica_id;
      newest.emplace(std::move(replica_id), std::pair(std::move(worker), pid_fd));
      continue;
    }
    runtime::log_warn("worker_not_adopted", {{"replica_id", worker.replica_id}, {"pid", worker.pid}});
    if (!end_process(pid_fd)) runtime::log_error("worker_does_not_end", {{"pid", worker.pid}});
  }
  for (auto& [replica_id, entry] : newest) found.push_back(std::move(entry));
}

void Daemon::Parts::remove_dead_files() const {
  std::set<std::string> alive;
  for (const auto& [worker, pid_fd] : found) {
    alive.insert(commands.socket_path(worker.replica_id, worker.inc));
    alive.insert(commands.output_path(worker.replica_id, worker.inc));
  }
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(commands.run_dir(), ignored)) {
    if (!alive.contains(entry.path().string())) std::filesystem::remove(entry.path(), ignored);
  }
}

void Daemon::Parts::adopt_workers() {
  WorkersFound event;
  for (auto& [worker, pid_fd] : std::exchange(found, {})) {
    const std::string endpoint = endpoint_of(worker.replica_id, worker.inc);
    runtime::log_info("worker_found",
                      {{"replica_id", worker.replica_id}, {"inc", inc_text(worker.inc)}, {"pid", worker.pid}});
    processes[worker.inc] = {
        .replica_id = worker.replica_id, .control_secret = worker.control_secret, .command = worker.command};
    supervisor->adopt({.inc = worker.inc,
                       .pid_fd = pid_fd,
                       .output_path = commands.output_path(worker.replica_id, worker.inc),
                       .log_path = commands.log_path(worker.replica_id, worker.inc),
                       .log_prefix = commands.log_prefix(worker.replica_id)});
    links.open(worker.inc, endpoint, worker.control_secret);
    event.workers.push_back(
        {.replica_id = worker.replica_id, .inc = worker.inc, .pid = worker.pid, .endpoint = endpoint});
    known.remember(std::move(worker));
  }
  if (!event.workers.empty()) handle(event);
}

// Effects may raise events at once; they wait until the step's own effects are done.
void Daemon::Parts::handle(const Event& event) {
  waiting.push_back(event);
  if (std::exchange(stepping, true)) return;
  while (!waiting.empty()) {
    const Event next = std::move(waiting.front());
    waiting.pop_front();
    Effects effects;
    manager.step(next, runtime::now(), effects);
    for (const Effect& effect : effects) {
      std::visit([this](const auto& each) { execute(each); }, effect);
    }
  }
  stepping = false;
  timer.set(manager.next_wakeup());
}

void Daemon::Parts::execute(const SpawnWorker& effect) {
  const Config::Pool* pool = commands.pool(effect.pool_id);
  ORCH_CHECK(pool != nullptr);
  const Secret secret = runtime::random_secret();
  std::vector<std::string> arguments = commands.arguments(effect);
  processes[effect.inc] = {
      .replica_id = effect.replica_id, .control_secret = secret, .command = command_digest(arguments)};
  supervisor->spawn({.inc = effect.inc,
                     .arguments = std::move(arguments),
                     .environment = WorkerCommands::environment(),
                     .lifeline_line = runtime::to_hex(secret) + "\n",
                     .output_path = commands.output_path(effect.replica_id, effect.inc),
                     .log_path = commands.log_path(effect.replica_id, effect.inc),
                     .log_prefix = commands.log_prefix(effect.replica_id),
                     .niceness = WorkerCommands::niceness(*pool)});
}

void Daemon::Parts::execute(const SignalWorker& effect) {
  const bool kill = effect.signal == StopSignal::kill;
  runtime::log_info("worker_signaled", {{"inc", inc_text(effect.inc)}, {"signal", kill ? "KILL" : "TERM"}});
  supervisor->signal(effect.inc, kill ? SIGKILL : SIGTERM);
}

void Daemon::Parts::execute(const SendGrant& effect) {
  runtime::log_debug("lease_granted",
                     {{"replica_id", effect.replica_id},
                      {"lease", std::to_string(effect.lease.boot) + "." + std::to_string(effect.lease.counter)},
                      {"slots", effect.slots}});
  attach.send(effect);
}

void Daemon::Parts::execute(const SendRevoke& effect) {
  runtime::log_info("lease_revoked",
                    {{"lease", std::to_string(effect.lease.boot) + "." + std::to_string(effect.lease.counter)},
                     {"stop", effect.stop},
                     {"reason", effect.reason}});
  attach.send(effect);
}

void Daemon::Parts::execute(const OperationReply& effect) {
  if (effect.operation) {
    runtime::log_info("operation_begun", {{"operation_id", to_string(effect.operation->id)},
                                          {"kind", to_string(effect.operation->kind)},
                                          {"pool_id", effect.operation->pool_id},
                                          {"replica_id", effect.operation->replica_id}});
  }
  desk.replied(effect);
}

// Stored before anybody is told (OC-POOL-3054).
void Daemon::Parts::execute(const OperationEnded& effect) {
  const Operation& operation = effect.operation;
  const auto stored = generations.store(manager.lasting_specs());
  if (!stored.ok()) runtime::log_error("generations_not_written", {{"message", stored.error().message}});
  runtime::log_info("operation_ended", {{"operation_id", to_string(operation.id)},
                                        {"kind", to_string(operation.kind)},
                                        {"pool_id", operation.pool_id},
                                        {"replica_id", operation.replica_id},
                                        {"state", to_string(operation.state)},
                                        {"error", operation.error},
                                        {"jobs_cut", operation.jobs_cut}});
  probe.operation_ended(operation);
  desk.ended(operation);
}

void Daemon::Parts::execute(const ReplicaGone& effect) {
  probe.gone(effect.replica_id);
  attach.send(effect);
}

void Daemon::Parts::execute(const NotedDrain& effect) { probe.drained(pool_of(effect.replica_id), effect.reason); }

void Daemon::Parts::execute(const NotedState& effect) {
  runtime::log_info("replica_state", {{"replica_id", effect.replica_id},
                                      {"pool_id", pool_of(effect.replica_id)},
                                      {"from", to_string(effect.from)},
                                      {"to", to_string(effect.to)},
                                      {"inc", inc_text(effect.inc)}});
}

void Daemon::Parts::execute(const NotedFailure& effect) {
  runtime::log_warn("replica_failed", {{"replica_id", effect.replica_id},
                                       {"inc", inc_text(effect.inc)},
                                       {"failure", to_string(effect.failure)},
                                       {"message", effect.message},
                                       {"in_a_row", effect.in_a_row},
                                       {"permanent", effect.permanent},
                                       {"breaker_open", effect.breaker_open},
                                       {"retry_in_ms", effect.retry_in.ms()}});
  probe.failed(pool_of(effect.replica_id), effect);
}

void Daemon::Parts::execute(const ShutdownComplete&) {
  runtime::log_info("stopped");
  loop.stop();
}

void Daemon::Parts::begin_shutdown() {
  if (shutting_down) {  // whoever asks twice does not want to wait: run() ends, and the supervisor kills and reaps
    runtime::log_warn("stopped_at_once");
    return loop.stop();
  }
  runtime::log_info("shutdown_begun", {{"drain_ms", kShutdownDrain.ms()}});
  shutting_down = true;
  handle(Shutdown{.deadline = kShutdownDrain});
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Result<std::unique_ptr<Daemon>, Daemon::StartFailure> Daemon::start(const Config& config, runtime::StateDir state_dir,
                                                                    std::string program_dir) {
  const auto grpc_address = runtime::parse_listen_address(config.grpc.listen);
  if (!grpc_address.ok()) return Err{StartFailure{78, "grpc.listen: " + grpc_address.error()}};
  const auto http_address = runtime::parse_listen_address(config.http.listen);
  if (!http_address.ok()) return Err{StartFailure{78, "http.listen: " + http_address.error()}};

  auto parts = std::make_unique<Parts>(config, std::move(state_dir), std::move(program_dir));
  const auto paths = parts->commands.check_socket_paths(parts->state_dir.boot());
  if (!paths.ok()) return Err{StartFailure{78, paths.error()}};
  parts->find_workers();
  parts->remove_dead_files();
  for (const std::string& dir : {parts->commands.run_dir(), parts->commands.log_dir()}) {
    const auto made = make_private_dir(dir);
    if (!made.ok()) return Err{made.error()};
  }

  const auto port = parts->admin.listen(*http_address);
  if (!port.ok()) return Err{StartFailure{port.error().exit_code(), "http.listen: " + port.error().message}};
  // L8: before any gateway's hello, which is posted behind it: that would spawn workers where some live already.
  parts->loop.post([first = parts.get()] {
    first->adopt_workers();
    first->handle(Tick{});
    first->expect_hellos();
  });
  auto server = runtime::GrpcServer::start(*grpc_address, {&parts->attach.grpc_service()});
  if (!server.ok()) return Err{StartFailure{server.error().exit_code(), "grpc.listen: " + server.error().message}};
  parts->grpc_server = std::move(server).value();
  if (!grpc_address->is_unix) {
    const auto written = parts->state_dir.write_port("grpc", static_cast<std::uint16_t>(parts->grpc_server->port()));
    if (!written.ok()) return Err{StartFailure{written.error().exit_code(), written.error().message}};
  }
  if (!http_address->is_unix) {
    const auto written = parts->state_dir.write_port("http", *port);
    if (!written.ok()) return Err{StartFailure{written.error().exit_code(), written.error().message}};
  }
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

Daemon::~Daemon() = default;

void Daemon::run() {
  Parts& parts = *parts_;
  parts.start_supervisor();
  parts.signals = std::make_unique<runtime::Signals>(parts.loop, std::vector<int>{SIGTERM, SIGINT},
                                                     [&parts](int) { parts.begin_shutdown(); });
  runtime::log_info("started", {{"manager_id", parts.manager.settings().manager.to_string()},
                                {"boot", parts.state_dir.boot()},
                                {"replicas", parts.manager.settings().replicas.size()}});
  parts.loop.run();
  parts.attach.close();
  parts.admin.close();
  runtime::shutdown_while_turning(parts.loop, *parts.grpc_server, kServerGrace);
  parts.supervisor.reset();
}

}  // namespace orch::pool
