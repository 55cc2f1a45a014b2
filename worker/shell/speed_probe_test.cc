#include "worker/shell/speed_probe.h"

#include <gtest/gtest.h>

namespace orch::worker {
namespace {

// A step takes 10 ms and 1 ms a row, in its own time.
class TimedBackend final : public Backend {
 public:
  BackendInfo info() const override { return {}; }
  std::uint64_t kv_saturated_total() const override { return 0; }
  std::uint32_t rows_max() const override { return 256; }
  Status<BackendFault> step(const StepInput& input, const StepOutput& out) override {
    ++steps;
    rows = input.rows.size();
    EXPECT_EQ(out.logits.size(), vocabulary);
    for (const Row& row : input.rows) {
      EXPECT_LT(row.position, context) << "backends end the process over it";
      EXPECT_LT(row.token, vocabulary);
    }
    if (steps == fails_at) return Err{BackendFault{BackendFaultKind::device_lost, "lost"}};
    now = now + fixed + Duration::milliseconds(static_cast<std::int64_t>(rows));
    return Ok{};
  }
  Status<BackendFault> copy_page(PageId, PageId) override { return Ok{}; }

  Instant now{1};
  Duration fixed = Duration::milliseconds(10);
  std::uint32_t vocabulary = 100;
  std::uint32_t context = 8192;
  int steps = 0;
  int fails_at = 0;
  std::size_t rows = 0;
};

EngineSpeed speed_of(TimedBackend& backend) {
  return measure_speed(backend, backend.vocabulary, backend.context, [&backend] { return backend.now; });
}

TEST(SpeedProbe, OC_ENGINE_1024_measures_one_job_alone) {
  TimedBackend backend;
  const EngineSpeed speed = speed_of(backend);
  EXPECT_EQ(backend.steps, 3);
  EXPECT_NEAR(speed.decode, 1000.0 / 11, 0.01);
  EXPECT_NEAR(speed.prefill, 32 * 1000.0 / 42, 0.01);
}

TEST(SpeedProbe, OC_ENGINE_1024_a_slow_device_takes_one_step) {
  TimedBackend backend;
  backend.fixed = Duration::seconds(2);
  const EngineSpeed speed = speed_of(backend);
  EXPECT_EQ(backend.steps, 1);
  EXPECT_NEAR(speed.decode, 0.4998, 0.001);
  EXPECT_EQ(speed.prefill, 0);
}

TEST(SpeedProbe, OC_ENGINE_1024_stays_within_a_small_context_and_a_small_vocabulary) {
  TimedBackend narrow;
  narrow.context = 16;
  EXPECT_NEAR(speed_of(narrow).prefill, 16 * 1000.0 / 26, 0.01);
  TimedBackend one;
  one.context = 1;
  EXPECT_NEAR(speed_of(one).decode, 1000.0 / 11, 0.01) << "the first position again";
  TimedBackend wordless;
  wordless.vocabulary = 1;
  EXPECT_NEAR(speed_of(wordless).prefill, 32 * 1000.0 / 42, 0.01);
  EXPECT_NEAR(speed_of(wordless).decode, 1000.0 / 11, 0.01);
}

TEST(SpeedProbe, OC_POOL_3044_the_largest_step_is_predicted_and_bounded) {
  EXPECT_EQ(predicted_step({.prefill = 8, .decode = 1}, 256), Duration::seconds(32));
  EXPECT_EQ(predicted_step({.prefill = 0, .decode = 10}, 256), Duration::milliseconds(25'600)) << "a slow device";
  EXPECT_EQ(predicted_step({.prefill = 2, .decode = 1}, 256), kPredictedStepMax);
  EXPECT_EQ(predicted_step({.prefill = 3000, .decode = 50}, 256), Duration::milliseconds(86));
  EXPECT_EQ(predicted_step({}, 256), Duration{}) << "nothing was measured";
}

TEST(SpeedProbe, OC_ENGINE_1024_a_step_that_fails_measures_nothing) {
  for (const int fails_at : {1, 2, 3}) {
    TimedBackend backend;
    backend.fails_at = fails_at;
    const EngineSpeed speed = speed_of(backend);
    EXPECT_EQ(speed.prefill, 0) << fails_at;
    EXPECT_EQ(speed.decode > 0, fails_at == 3) << fails_at;
  }
}

}  // namespace
}  // namespace orch::worker
