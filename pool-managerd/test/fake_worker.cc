// Stands in for workerd in process tests: the real Worker service over a scripted engine. The "model file" is the
// script: one word per line, each a fault to show.

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "common/runtime/grpc_setup.h"
#include "worker/core/engine_port.h"
#include "worker/shell/worker_server.h"

namespace orch::worker {
namespace {

constexpr auto kStep = std::chrono::milliseconds(2);

// One token per step for every job, on one thread.
class ScriptedEngine final : public GenerationEngine {
 public:
  ScriptedEngine(std::set<std::string> faults, EngineInfo info) : faults_(std::move(faults)), info_(std::move(info)) {
    thread_ = std::thread([this] { run(); });
  }
  ~ScriptedEngine() override {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  EngineInfo info() const override { return info_; }
  EngineCounters counters() const override {
    const std::lock_guard lock(mutex_);
    EngineCounters out = counters_;
    out.running = static_cast<std::uint32_t>(jobs_.size());
    return out;
  }
  void submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) override {
    const std::lock_guard lock(mutex_);
    jobs_[request.id] = {.sink = std::move(sink), .left = request.max_tokens};
    changed_.notify_all();
  }
  void cancel(const DispatchId& id) override {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(id);
    if (job != jobs_.end() && !faults_.contains("cancel")) job->second.canceled = true;
    changed_.notify_all();
  }
  Result<std::pair<std::uint32_t, bool>, EngineFailure> count_tokens(const EnginePrompt& prompt) override {
    return std::pair<std::uint32_t, bool>{static_cast<std::uint32_t>(prompt.text.size()), false};
  }

 private:
  struct Job {
    std::shared_ptr<GenerationSink> sink;
    std::uint32_t left = 0;
    std::uint32_t index = 0;
    bool canceled = false;
  };

  void run() {
    std::unique_lock lock(mutex_);
    while (!closed_) {
      changed_.wait_for(lock, kStep, [this] { return closed_; });
      std::vector<std::pair<DispatchId, Job>> turn(jobs_.begin(), jobs_.end());
      if (!turn.empty()) ++counters_.steps_done;
      for (auto& [id, job] : turn) step(lock, id, job);
    }
  }

  void step(std::unique_lock<std::mutex>& lock, const DispatchId& id, Job& job) {
    const bool yields = !faults_.contains("decode");
    const bool counts = !faults_.contains("counters");
    const bool ends = job.canceled || !yields || job.left <= 1;
    if (ends) {
      jobs_.erase(id);
    } else {
      Job& kept = jobs_.at(id);
      --kept.left;
      ++kept.index;
    }
    if (!job.canceled && yields && counts) ++counters_.tokens_out_total;
    if (faults_.contains("saturates")) {
      counters_.kv_pages_total = 10;
      counters_.kv_saturated_total = 5;
    }
    if (job.canceled && counts) ++counters_.canceled_total;
    lock.unlock();
    if (job.canceled) {
      job.sink->failed({.outcome = Outcome::CANCELED, .message = "canceled", .field = {}});
    } else {
      if (job.index == 0) job.sink->started(1, 0);
      if (yields) job.sink->tokens({job.index, {7}, "a"});
      if (!ends) return lock.lock();
      GenerationResult result;
      result.reason = FinishReason::length;
      result.completion_tokens = yields ? job.index + 1 : 0;
      job.sink->finished(result);
    }
    lock.lock();
  }

  const std::set<std::string> faults_;
  const EngineInfo info_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<DispatchId, Job> jobs_;
  EngineCounters counters_;
  bool closed_ = false;
  std::thread thread_;
};

std::set<std::string> read_script(const std::string& path) {
  std::set<std::string> words;
  std::ifstream in(path);
  for (std::string word; in >> word;) words.insert(word);
  return words;
}

int run(const std::map<std::string, std::string>& flags) {
  const std::set<std::string> faults = read_script(flags.at("--model"));
  if (faults.contains("exit65")) {
    std::fprintf(stderr, "model: bad magic in %s\n", flags.at("--model").c_str());
    return 65;
  }
  if (faults.contains("exit69")) return 69;
  if (faults.contains("exit71")) return 71;
  std::printf("hello from the fake worker\n");
  std::fflush(stdout);

  EngineInfo info;
  info.ready = !faults.contains("load");
  if (faults.contains("load"))
    info.load_failure = EngineFailure{.outcome = Outcome::INTERNAL, .message = "tensor blk.0 is cut off", .field = {}};
  info.engine = "native";
  info.engine_version = "fake";
  info.model_name = flags.at("--model-name");
  const auto digest = flags.find("--model-digest");
  info.model_digest = digest == flags.end() ? "" : digest->second;
  if (faults.contains("digest")) info.model_digest = "sha256:" + std::string(64, '1');
  info.ctx_max = 4096;
  info.slots = static_cast<std::uint32_t>(std::stoul(flags.at("--slots")));
  info.numeric_class = "none";
  info.accelerator = "cpu";
  info.ctx_wanted = faults.contains("shrinks") ? 8192 : info.ctx_max;
  if (faults.contains("skips")) info.skipped_devices = "a card: no compute queue";

  if (faults.contains("chatter")) {  // a numbered line every few milliseconds
    std::thread([] {
      for (int line = 0;; ++line) {
        std::printf("line %d\n", line);
        std::fflush(stdout);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }).detach();
  }

  ScriptedEngine engine(faults, info);
  WorkerServer::Options options;
  options.listen = flags.at("--listen");
  options.lifeline_fd = std::stoi(flags.at("--lifeline-fd"));
  options.orphan_grace = Duration::milliseconds(std::stol(flags.at("--orphan-grace-ms")));
  if (faults.contains("no_term")) {
    auto server = WorkerServer::start(engine, options);
    if (!server.ok()) return server.error().exit_code;
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
  return serve(engine, options);
}

}  // namespace
}  // namespace orch::worker

int main(int argc, char** argv) {
  orch::runtime::prepare_grpc();
  orch::worker::block_stop_signals();
  std::map<std::string, std::string> flags;
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = argv[i + 1];
  return orch::worker::run(flags);
}
