// Test double: an engine whose every step a test makes by hand. Threads: any.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "worker/core/engine_port.h"

namespace orch::worker {

class ManualEngine final : public GenerationEngine {
 public:
  ManualEngine() {
    info_.ready = true;
    info_.engine = "manual";
    info_.slots = 4;
    info_.ctx_max = 4096;
  }

  EngineInfo info() const override {
    const std::lock_guard lock(mutex_);
    return info_;
  }
  EngineCounters counters() const override {
    const std::lock_guard lock(mutex_);
    return counters_;
  }
  void submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) override {
    std::function<void(GenerationRequest)> react;
    {
      const std::lock_guard lock(mutex_);
      const DispatchId id = request.id;
      ++counters_.running;
      jobs_[id] = std::move(sink);
      seen_.push_back(id);
      react = on_submit_;
    }
    changed_.notify_all();
    if (react) react(std::move(request));
  }
  void cancel(const DispatchId& id) override {
    std::function<void(DispatchId)> react;
    {
      const std::lock_guard lock(mutex_);
      canceled_.push_back(id);
      react = on_cancel_;
    }
    changed_.notify_all();
    scored(id, Err{EngineFailure{Outcome::CANCELED, "canceled", {}}});
    if (react) {
      react(id);
    } else {
      fail(id, {Outcome::CANCELED, "canceled", {}});
    }
  }
  Result<std::pair<std::uint32_t, bool>, EngineFailure> count_tokens(const EnginePrompt& prompt) override {
    std::function<void()> react;
    {
      const std::lock_guard lock(mutex_);
      react = on_count_;
    }
    if (react) react();
    return std::pair<std::uint32_t, bool>{static_cast<std::uint32_t>(prompt.text.size()), false};
  }

  // A token for each byte.
  Result<TokenizedText, EngineFailure> tokenize(const EnginePrompt& prompt) override {
    TokenizedText out;
    for (const char c : prompt.text) {
      out.ids.push_back(static_cast<unsigned char>(c));
      out.pieces.emplace_back(1, c);
    }
    return out;
  }
  Result<std::string, EngineFailure> apply_template(const EnginePrompt& prompt) override {
    return prompt.messages[0].first + ":" + prompt.messages[0].second;
  }
  void score(ScoreRequest request, std::shared_ptr<ScoreSink> sink) override {
    {
      const std::lock_guard lock(mutex_);
      score_sinks_[request.id] = std::move(sink);
      scores_seen_.push_back(std::move(request));
    }
    changed_.notify_all();
  }

  void embed(EmbedRequest request, std::shared_ptr<EmbedSink> sink) override {
    {
      const std::lock_guard lock(mutex_);
      embed_sinks_[request.id] = std::move(sink);
      embeds_seen_.push_back(std::move(request));
    }
    changed_.notify_all();
  }

  // --- the test's hand ---
  bool wait_embed(std::size_t count) const {
    return wait([&] { return embeds_seen_.size() >= count; });
  }
  EmbedRequest last_embed() const {
    const std::lock_guard lock(mutex_);
    return embeds_seen_.back();
  }
  void embedded(const DispatchId& id, const EmbedResult& result) {
    std::shared_ptr<EmbedSink> target;
    {
      const std::lock_guard lock(mutex_);
      target = std::exchange(embed_sinks_[id], nullptr);
    }
    target->answered(result);
  }
  bool wait_score(std::size_t count) const {
    return wait([&] { return scores_seen_.size() >= count; });
  }
  ScoreRequest last_score() const {
    const std::lock_guard lock(mutex_);
    return scores_seen_.back();
  }
  void scored(const DispatchId& id, const Result<ScoreResult, EngineFailure>& result) {
    std::shared_ptr<ScoreSink> target;
    {
      const std::lock_guard lock(mutex_);
      const auto found = score_sinks_.find(id);
      if (found == score_sinks_.end()) return;
      target = std::move(found->second);
      score_sinks_.erase(found);
    }
    if (result.ok())
      target->answered(result.value());
    else
      target->failed(result.error());
  }
  template <typename Change>
  void change(Change change) {
    const std::lock_guard lock(mutex_);
    change(info_, counters_);
  }
  void on_submit(std::function<void(GenerationRequest)> react) { set(on_submit_, std::move(react)); }
  void on_cancel(std::function<void(DispatchId)> react) { set(on_cancel_, std::move(react)); }
  void on_count(std::function<void()> react) { set(on_count_, std::move(react)); }

  std::shared_ptr<GenerationSink> sink(const DispatchId& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = jobs_.find(id);
    return found == jobs_.end() ? nullptr : found->second;
  }
  void token(const DispatchId& id, std::uint32_t index, std::uint32_t token_id, std::string text) {
    {
      const std::lock_guard lock(mutex_);
      ++counters_.tokens_out_total;
    }
    if (const auto target = sink(id)) target->tokens({index, {token_id}, std::move(text)});
  }
  void finish(const DispatchId& id, GenerationResult result) {
    if (const auto target = take(id)) target->finished(result);
  }
  void fail(const DispatchId& id, EngineFailure failure) {
    if (const auto target = take(id, failure.outcome == Outcome::CANCELED)) target->failed(failure);
  }
  bool wait_submitted(std::size_t count) const {
    return wait([&] { return seen_.size() >= count; });
  }
  bool wait_canceled(std::size_t count) const {
    return wait([&] { return canceled_.size() >= count; });
  }
  std::size_t submitted() const {
    const std::lock_guard lock(mutex_);
    return seen_.size();
  }

 private:
  template <typename Function>
  void set(Function& slot, Function value) {
    const std::lock_guard lock(mutex_);
    slot = std::move(value);
  }
  template <typename Condition>
  bool wait(Condition condition) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), condition);
  }
  std::shared_ptr<GenerationSink> take(const DispatchId& id, bool canceled = false) {
    const std::lock_guard lock(mutex_);
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) return nullptr;
    std::shared_ptr<GenerationSink> out = std::move(found->second);
    jobs_.erase(found);
    --counters_.running;
    if (canceled) ++counters_.canceled_total;
    return out;
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  EngineInfo info_;
  EngineCounters counters_;
  std::map<DispatchId, std::shared_ptr<GenerationSink>> jobs_;
  std::map<DispatchId, std::shared_ptr<ScoreSink>> score_sinks_;
  std::vector<ScoreRequest> scores_seen_;
  std::map<DispatchId, std::shared_ptr<EmbedSink>> embed_sinks_;
  std::vector<EmbedRequest> embeds_seen_;
  std::vector<DispatchId> seen_;
  std::vector<DispatchId> canceled_;
  std::function<void(GenerationRequest)> on_submit_;
  std::function<void(DispatchId)> on_cancel_;
  std::function<void()> on_count_;
};

}  // namespace orch::worker
