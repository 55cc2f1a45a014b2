#include "worker/shell/self_check.h"

#include <gtest/gtest.h>

#include "worker/shell/manual_engine.h"

namespace orch::worker {
namespace {

// An engine that does what a sound one does, on the caller's thread; tests bend one thing each.
class SelfCheckTest : public ::testing::Test {
 protected:
  SelfCheckTest() {
    engine_.on_submit([this](GenerationRequest request) {  // NOLINT
      if (request.max_tokens == 1) {
        if (decodes_) engine_.token(request.id, 0, 5, "x");
        engine_.finish(request.id, {.completion_tokens = decodes_ ? 1u : 0u});
      } else if (runs_on_) {
        engine_.token(request.id, 0, 6, "y");
      } else {
        engine_.finish(request.id, {.completion_tokens = 1});
      }
    });
    engine_.on_cancel([this](const DispatchId& id) {
      if (!hears_cancel_) return;
      engine_.fail(id, {Outcome::CANCELED, "canceled", {}});
      engine_.change([this](EngineInfo&, EngineCounters& counters) {
        if (!frees_slot_) ++counters.running;
        if (!counts_) counters.canceled_total = 0;
      });
    });
  }

  SelfCheckVerdict run() {
    SelfCheck check(engine_, 9, Instant{}, Duration::seconds(10), [] {});
    for (std::int64_t ms = 0; ms <= 10'000; ms += 5) {
      if (const auto verdict = check.advance(Instant{} + Duration::milliseconds(ms))) return *verdict;
    }
    ADD_FAILURE() << "no verdict within its limit";
    return {};
  }

  ManualEngine engine_;
  bool decodes_ = true;
  bool runs_on_ = true;
  bool hears_cancel_ = true;
  bool frees_slot_ = true;
  bool counts_ = true;
};

TEST_F(SelfCheckTest, passes_when_token_cancel_and_counters_are_seen) {
  const SelfCheckVerdict verdict = run();
  EXPECT_EQ(verdict.id, 9u);
  EXPECT_TRUE(verdict.decoded && verdict.cancel_freed && verdict.counters_moved) << verdict.detail;
  EXPECT_EQ(verdict.detail, "");
}

TEST_F(SelfCheckTest, names_an_engine_that_is_not_ready) {
  engine_.change([](EngineInfo& info, EngineCounters&) { info.ready = false; });
  const SelfCheckVerdict verdict = run();
  EXPECT_FALSE(verdict.decoded);
  EXPECT_NE(verdict.detail.find("not ready"), std::string::npos);
  EXPECT_EQ(engine_.submitted(), 0u);
}

TEST_F(SelfCheckTest, names_a_decode_without_a_token) {
  decodes_ = false;
  const SelfCheckVerdict verdict = run();
  EXPECT_FALSE(verdict.decoded);
  EXPECT_NE(verdict.detail.find("gave none"), std::string::npos);
}

TEST_F(SelfCheckTest, names_a_cancel_that_came_too_late_to_prove_anything) {
  runs_on_ = false;
  const SelfCheckVerdict verdict = run();
  EXPECT_TRUE(verdict.decoded);
  EXPECT_FALSE(verdict.cancel_freed);
  EXPECT_NE(verdict.detail.find("before it was cancelled"), std::string::npos);
}

TEST_F(SelfCheckTest, names_a_cancel_that_nobody_heard) {
  hears_cancel_ = false;
  const SelfCheckVerdict verdict = run();
  EXPECT_TRUE(verdict.decoded);
  EXPECT_FALSE(verdict.cancel_freed);
  EXPECT_NE(verdict.detail.find("out of time"), std::string::npos);
}

TEST_F(SelfCheckTest, names_a_slot_that_did_not_come_back) {
  frees_slot_ = false;
  const SelfCheckVerdict verdict = run();
  EXPECT_TRUE(verdict.decoded);
  EXPECT_FALSE(verdict.cancel_freed);
  EXPECT_NE(verdict.detail.find("slot"), std::string::npos);
}

TEST_F(SelfCheckTest, names_counters_that_did_not_move) {
  counts_ = false;
  const SelfCheckVerdict verdict = run();
  EXPECT_TRUE(verdict.decoded && verdict.cancel_freed);
  EXPECT_FALSE(verdict.counters_moved);
  EXPECT_NE(verdict.detail.find("counters"), std::string::npos);
}

}  // namespace
}  // namespace orch::worker
