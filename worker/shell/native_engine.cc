#include "worker/shell/native_engine.h"

#include <utility>

namespace orch::worker {

namespace {

EngineFailure unloaded() { return {Outcome::POOL_UNREADY, "the model is not loaded", {}}; }

}  // namespace

NativeEngine::NativeEngine(Options options, Loader loader)
    : options_(std::move(options)), loader_(std::move(loader)), info_(options_.initial), refusal_(unloaded()) {
  ORCH_CHECK(options_.clock != nullptr);
  thread_ = std::thread([this] { run(); });
  for (Lane& lane : lanes_) lane.thread = std::thread([this, &lane] { run_preparations(lane); });
}

NativeEngine::~NativeEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  mail_.notify_all();
  for (Lane& lane : lanes_) lane.wakes.notify_all();
  thread_.join();
  for (Lane& lane : lanes_) lane.thread.join();
}

EngineInfo NativeEngine::info() const {
  const std::lock_guard lock(mutex_);
  return info_;
}

EngineCounters NativeEngine::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

Result<NativeEngine::Loaded, EngineFailure> NativeEngine::loaded() const {
  const std::lock_guard lock(mutex_);
  if (!info_.ready) return Err{refusal_};
  return loaded_;
}

Result<std::pair<std::uint32_t, bool>, EngineFailure> NativeEngine::count_tokens(const EnginePrompt& prompt) {
  const auto ready = loaded();
  if (!ready.ok()) return Err{unloaded()};
  const auto ids = ready->texts.prompt_ids(prompt);
  if (!ids.ok()) return Err{ids.error()};
  return std::pair{static_cast<std::uint32_t>(ids.value().size()), false};
}

Result<TokenizedText, EngineFailure> NativeEngine::tokenize(const EnginePrompt& prompt) {
  const auto ready = loaded();
  if (!ready.ok()) return Err{unloaded()};
  return ready->texts.tokenize(prompt);
}

Result<std::string, EngineFailure> NativeEngine::apply_template(const EnginePrompt& prompt) {
  const auto ready = loaded();
  if (!ready.ok()) return Err{unloaded()};
  return ready->texts.apply_template(prompt);
}

}  // namespace orch::worker
