#include "worker/shell/self_check.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "worker/core/attempts.h"

namespace orch::worker {
namespace {

// How long the slot may take to come back after the engine has said that the cancelled job ended.
constexpr Duration kSettleLimit = Duration::seconds(2);
constexpr std::uint32_t kSecondMaxTokens = 512;
constexpr std::uint32_t kAttempt = kAttemptMax + 2;  // no dispatch has it

}  // namespace

class SelfCheck::Probe final : public GenerationSink {
 public:
  struct Seen {
    bool token = false;
    std::optional<GenerationResult> result;
    std::optional<EngineFailure> failure;
    bool ended() const { return result.has_value() || failure.has_value(); }
  };

  explicit Probe(std::function<void()> wake) : wake_(std::move(wake)) {}

  Seen seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  void started(std::uint32_t, std::uint32_t) override {}
  void tokens(GeneratedTokens) override {
    note([](Seen& seen) { seen.token = true; });
  }
  void finished(const GenerationResult& result) override {
    note([&result](Seen& seen) { seen.result = result; });
  }
  void failed(const EngineFailure& failure) override {
    note([&failure](Seen& seen) { seen.failure = failure; });
  }

 private:
  template <typename Change>
  void note(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change(seen_);
    }
    wake_();
  }

  mutable std::mutex mutex_;
  Seen seen_;
  std::function<void()> wake_;
};

SelfCheck::SelfCheck(GenerationEngine& engine, std::uint64_t id, Instant now, Duration limit,
                     std::function<void()> wake)
    : engine_(engine), deadline_(now + limit), wake_(std::move(wake)) {
  verdict_.id = id;
}

SelfCheck::~SelfCheck() { cancel_probe(); }

void SelfCheck::cancel_probe() {
  if (probe_ && !probe_->seen().ended()) engine_.cancel(probe_id_);
}

DispatchId SelfCheck::submit(std::uint32_t max_tokens) {
  GenerationRequest request;
  const std::uint64_t part = max_tokens == 1 ? 1 : 2;
  request.id = {.job = {Uuid{.hi = verdict_.id, .lo = part}}, .attempt = kAttempt};
  request.prompt.text = "The rain in the";
  request.temperature = 1.0F;  // a greedy continuation may end at once
  request.seed = verdict_.id;
  request.max_tokens = max_tokens;
  probe_ = std::make_shared<Probe>(wake_);
  probe_id_ = request.id;
  engine_.submit(std::move(request), probe_);
  return probe_id_;
}

void SelfCheck::fail(std::string detail) {
  cancel_probe();
  verdict_.detail = std::move(detail);
  phase_ = Phase::done;
}

std::optional<SelfCheckVerdict> SelfCheck::advance(Instant now) {
  Phase seen = Phase::done;
  do {  // as far as it goes without waiting
    seen = phase_;
    switch (phase_) {
      case Phase::begin:
        begin();
        break;
      case Phase::decoding:
        after_decoding();
        break;
      case Phase::cancel_pending:
        after_first_token();
        break;
      case Phase::canceling:
        after_cancel(now);
        break;
      case Phase::settling:
        settle(now);
        break;
      case Phase::done:
        break;
    }
  } while (seen != phase_);
  if (phase_ != Phase::done && now >= deadline_) fail("the self-check ran out of time");
  if (phase_ != Phase::done) return std::nullopt;
  return verdict_;
}

void SelfCheck::begin() {
  const EngineInfo info = engine_.info();
  if (!info.ready) return fail("the engine is not ready");
  before_ = engine_.counters();
  submit(1);
  phase_ = Phase::decoding;
}

void SelfCheck::after_decoding() {
  const Probe::Seen seen = probe_->seen();
  if (!seen.ended()) return;
  if (seen.failure) return fail("decoding one token failed: " + seen.failure->message);
  if (seen.result->completion_tokens == 0) return fail("decoding one token gave none");
  verdict_.decoded = true;
  submit(std::max<std::uint32_t>(2, std::min(kSecondMaxTokens, engine_.info().ctx_max / 2)));
  phase_ = Phase::cancel_pending;
}

void SelfCheck::after_first_token() {
  const Probe::Seen seen = probe_->seen();
  if (seen.failure) return fail("the generation to cancel failed: " + seen.failure->message);
  if (seen.result) return fail("the generation to cancel ended before it was cancelled");
  if (!seen.token) return;
  engine_.cancel(probe_id_);
  phase_ = Phase::canceling;
}

void SelfCheck::after_cancel(Instant now) {
  const Probe::Seen seen = probe_->seen();
  if (!seen.ended()) return;
  if (!seen.failure || seen.failure->outcome != Outcome::CANCELED) {
    return fail("the cancelled generation did not end as cancelled");
  }
  settle_end_ = std::min(deadline_, now + kSettleLimit);
  phase_ = Phase::settling;
}

void SelfCheck::settle(Instant now) {
  const EngineCounters counters = engine_.counters();
  // Other jobs may end meanwhile; more running than before means that ours is still among them.
  verdict_.cancel_freed = counters.running <= before_.running;
  verdict_.counters_moved =
      counters.canceled_total > before_.canceled_total && counters.tokens_out_total > before_.tokens_out_total;
  if (verdict_.cancel_freed && verdict_.counters_moved) {
    phase_ = Phase::done;
  } else if (now >= settle_end_) {
    fail(!verdict_.cancel_freed ? "the cancelled generation did not give its slot back"
                                : "the counters did not see the decoded token and the cancel");
  }
}

}  // namespace orch::worker
