#include "worker/shell/worker_server.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "common/runtime/grpc_setup.h"
#include "common/runtime/listen_address.h"
#include "common/runtime/log.h"
#include "worker/shell/lifeline.h"
#include "worker/shell/private_socket.h"
#include "worker/shell/worker_service.h"

namespace orch::worker {
namespace {

constexpr Duration kSecretLimit = Duration::seconds(5);
constexpr Duration kStopGrace = Duration::seconds(1);
constexpr Duration kLostGrace = Duration::milliseconds(200);

void wait_until_idle(const WorkerState& state, Duration limit) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(limit.ns);
  while (!state.idle() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Result<runtime::ListenAddress, StartFailure> check_address(const std::string& listen) {
  auto parsed = runtime::parse_listen_address(listen);
  if (!parsed.ok()) return Err{StartFailure{kExitUsage, "--listen: " + parsed.error()}};
  if (!parsed->is_loopback()) {
    // The fence is the only credential of a dispatch and travels in clear.
    return Err{StartFailure{kExitUsage, "--listen: a worker binds loopback or a unix socket, not " + listen}};
  }
  if (parsed->is_unix) {
    if (const auto free = prepare_private_socket(parsed->path); !free.ok()) {
      return Err{StartFailure{kExitAddress, free.error()}};
    }
  }
  return *parsed;
}

}  // namespace

struct WorkerServer::Parts {
  std::shared_ptr<WorkerState> state;
  std::unique_ptr<WorkerService> service;
  std::unique_ptr<runtime::GrpcServer> server;
  std::unique_ptr<Lifeline> lifeline;
  std::thread timer;
  std::string socket_path;
  std::string address;
  std::function<void()> lifeline_lost;

  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  bool stopped = false;

  void leave() {
    runtime::log_warn("orphaned");
    state->stop_all({Outcome::CANCELED, "the manager is gone", {}});
    wait_until_idle(*state, kLostGrace);
    if (!socket_path.empty()) ::unlink(socket_path.c_str());
    ::_exit(0);  // nothing may keep a process alive that nobody owns
  }
};

Result<std::unique_ptr<WorkerServer>, StartFailure> WorkerServer::start(GenerationEngine& engine, Options options) {
  ORCH_TRY(listen, check_address(options.listen));
  auto parts = std::make_unique<Parts>();
  std::optional<std::string> secret;
  if (options.lifeline_fd) {
    auto lifeline = Lifeline::open(*options.lifeline_fd, kSecretLimit);
    if (!lifeline.ok()) return Err{StartFailure{kExitUsage, "--lifeline-fd: " + lifeline.error()}};
    parts->lifeline = std::move(lifeline.value());
    secret = parts->lifeline->secret();
  }
  parts->state = std::make_shared<WorkerState>(
      engine, WorkerState::Options{
                  .control_secret = secret,
                  .self_check_limit = options.self_check_limit,
                  .orphan_grace = options.orphan_grace,
                  .on_orphaned = [raw = parts.get()] { raw->lifeline_lost ? raw->lifeline_lost() : raw->leave(); }});
  parts->service = std::make_unique<WorkerService>(parts->state, engine, options.outbox_bytes_max);
  auto server =
      runtime::GrpcServer::start(listen, {parts->service.get()}, {.peers = runtime::GrpcServer::Peers::own_user});
  if (!server.ok()) return Err{StartFailure{kExitAddress, server.error().message}};
  parts->server = std::move(server.value());
  if (listen.is_unix) {
    parts->socket_path = listen.path;
  } else {
    listen.port = static_cast<std::uint16_t>(parts->server->port());
  }
  parts->address = listen.grpc_target();
  parts->lifeline_lost = std::move(options.lifeline_lost);

  Parts* const raw = parts.get();
  parts->timer = std::thread([raw] { raw->state->run_timer(); });
  if (parts->lifeline) {
    parts->lifeline->watch([raw] {
      runtime::log_warn("lifeline_lost");
      raw->state->lifeline_lost();
    });
  }
  return std::unique_ptr<WorkerServer>(new WorkerServer(std::move(parts)));
}

WorkerServer::WorkerServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

WorkerServer::~WorkerServer() { stop(); }

const std::string& WorkerServer::address() const { return parts_->address; }

void WorkerServer::wait() {
  std::unique_lock lock(parts_->mutex);
  parts_->changed.wait(lock, [this] { return parts_->stopped; });
}

void WorkerServer::stop() {
  {
    std::unique_lock lock(parts_->mutex);
    if (std::exchange(parts_->stopping, true)) {
      parts_->changed.wait(lock, [this] { return parts_->stopped; });
      return;
    }
  }
  parts_->state->stop_all({Outcome::POOL_UNREADY, "the worker was asked to stop", {}});
  wait_until_idle(*parts_->state, kStopGrace);
  parts_->server->shutdown(Duration::milliseconds(200));
  parts_->server.reset();
  parts_->state->close();
  parts_->timer.join();
  parts_->lifeline.reset();
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->stopped = true;
  }
  parts_->changed.notify_all();
}

namespace {

sigset_t stop_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

void block_stop_signals() {
  const sigset_t signals = stop_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

int serve(GenerationEngine& engine, WorkerServer::Options options) {
  auto server = WorkerServer::start(engine, std::move(options));
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.error().message.c_str());
    return server.error().exit_code;
  }
  runtime::log_info("worker_serving", {{"address", server.value()->address()}, {"engine", engine.info().engine}});
  const sigset_t signals = stop_signals();
  int received = 0;
  while (::sigwait(&signals, &received) != 0) {
  }
  runtime::log_info("worker_stopping", {{"signal", received}});
  server.value()->stop();
  return EXIT_SUCCESS;
}

}  // namespace orch::worker
