#include "adapters/shell/engine_prober.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "adapters/shell/model_digest.h"
#include "common/runtime/clock.h"

namespace orch::adapter {
namespace {

constexpr Duration kProbeLimit = Duration::seconds(2);
constexpr std::size_t kProbeBytesMax = 4 * 1024 * 1024;
constexpr int kMissesMax = 3;  // one lost probe of a busy engine means nothing

bool same_engine(const EngineView& left, const EngineView& right) {
  return left.engine_version == right.engine_version && left.model_path == right.model_path &&
         left.model_name == right.model_name && left.ctx_max == right.ctx_max && left.quant == right.quant;
}

}  // namespace

EngineProber::EngineProber(const Dialect& dialect, EngineAddress address, Options options, EngineStatus& status)
    : dialect_(dialect),
      address_(std::move(address)),
      options_(std::move(options)),
      status_(status),
      began_(runtime::now()) {
  status_.update([this](worker::EngineInfo& info, auto&) {
    info.engine = dialect_.engine();
    info.sampler_profile_version = dialect_.sampler_profile_version();
    info.model_name = options_.model_name;
    info.numeric_class = "none";
    info.accelerator = "external";
    info.token_ids = false;
    info.cancel = "unconfirmed";
  });
  thread_ = std::thread([this] { run(); });
}

EngineProber::~EngineProber() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void EngineProber::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    take(look());
    const Duration pause = status_.ready() ? options_.every : options_.every_loading;
    lock.lock();
    changed_.wait_for(lock, std::chrono::nanoseconds(pause.ns), [this] { return stopping_; });
  }
}

EngineView EngineProber::look() const {
  std::vector<HttpReply> replies;
  for (const HttpRequest& probe : dialect_.probes()) {
    replies.push_back(fetch(address_, probe, kProbeLimit, kProbeBytesMax));
    if (replies.front().status != 200) replies.resize(dialect_.probes().size());  // not up: the rest would only wait
    if (replies.size() == dialect_.probes().size()) break;
  }
  return dialect_.read_probes(replies);
}

void EngineProber::take(const EngineView& view) {
  if (view.state == EngineView::State::ready) {
    misses_ = 0;
    became_ready(view);
  } else {
    // Health is progress: an engine that still decodes is not dead, however long its answer to a probe takes.
    const std::uint64_t steps = status_.counters().steps_done;
    misses_ = steps != std::exchange(steps_, steps) ? 0 : misses_ + 1;
    not_ready(view);
  }
}

void EngineProber::became_ready(const EngineView& view) {
  if (identity_ && !same_engine(*identity_, view)) {
    status_.update([](worker::EngineInfo& info, auto&) {
      info.ready = false;
      info.load_failure = EngineFailure{.outcome = Outcome::WORKER_RESET,
                                        .message = "the engine came back with another version, model or context",
                                        .field = {}};
    });
    return;
  }
  if (identity_) {  // what was told once stays: a probe that a busy engine left unanswered takes no capability away
    status_.update([](worker::EngineInfo& info, auto&) {
      info.ready = true;
      info.load_failure.reset();
    });
    return;
  }
  identity_ = view;
  const std::string digest = options_.digest_local_model ? model_digest(view.model_path) : std::string();
  status_.update([&](worker::EngineInfo& info, auto&) {
    info.ready = true;
    info.load_progress = 1;
    info.waits_for.clear();
    info.load_failure.reset();
    info.engine_version = view.engine_version;
    info.model_digest = digest;
    info.quant = view.quant;
    info.ctx_max = view.ctx_max;
    info.slots = options_.slots == 0 ? view.slots : std::min(options_.slots, view.slots);
    info.template_available = view.template_available;
    info.cancel = view.slots_visible ? "confirmed" : "unconfirmed";
  });
}

void EngineProber::not_ready(const EngineView& view) {
  const bool was_ready = status_.ready();
  if (was_ready && view.state == EngineView::State::dead && misses_ < kMissesMax) return;
  const bool never_came = !identity_ && runtime::now() >= began_ + options_.unreachable;
  const bool failed =
      view.state == EngineView::State::refused || was_ready || (view.state == EngineView::State::dead && never_came);
  status_.update([&](worker::EngineInfo& info, auto&) {
    info.ready = false;
    info.load_progress = 0;
    info.waits_for = view.detail;
    if (failed)
      info.load_failure = EngineFailure{.outcome = Outcome::POOL_UNAVAILABLE, .message = view.detail, .field = {}};
  });
}

}  // namespace orch::adapter
