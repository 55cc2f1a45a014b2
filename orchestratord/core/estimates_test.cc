// What predictions are made of: quantiles, service times (E2), drain rates (OC-ADMIT-1001), the on-time record
// (OC-ADMIT-1003).
#include <gtest/gtest.h>

#include "orchestratord/core/decaying_quantiles.h"
#include "orchestratord/core/drain_rates.h"
#include "orchestratord/core/on_time.h"
#include "orchestratord/core/overtaking.h"
#include "orchestratord/core/service_times.h"

namespace orch::gateway {
namespace {

const Instant kNow{1'000'000'000};
const std::string kModel = "m";
const std::string kTenant = "t";
Duration ms(std::int64_t value) { return Duration::milliseconds(value); }

// --- quantiles ---

TEST(DecayingQuantiles, of_a_window_and_the_newest_weigh_most) {
  DecayingQuantiles quantiles;
  EXPECT_EQ(quantiles.quantile(0.5), 0);
  for (int i = 1; i <= 100; ++i) quantiles.add(i);
  EXPECT_EQ(quantiles.size(), DecayingQuantiles::kWindow);
  EXPECT_EQ(quantiles.quantile(0), 37);  // the oldest that is kept
  EXPECT_EQ(quantiles.quantile(1), 100);
  EXPECT_GT(quantiles.quantile(0.5), 69) << "the plain median of 37..100";
  for (int i = 0; i < 32; ++i) quantiles.add(5);
  EXPECT_EQ(quantiles.quantile(0.5), 5);
}

TEST(DecayingQuantiles, one_outlier_does_not_decide) {
  DecayingQuantiles quantiles;
  for (int i = 0; i < 20; ++i) quantiles.add(10);
  quantiles.add(1e9);
  EXPECT_EQ(quantiles.quantile(0.5), 10);
  EXPECT_EQ(quantiles.quantile(0.75), 10);
}

// --- E2 ---

ServiceSample sample(std::uint64_t prompt, std::uint64_t output, Duration first, Duration per_token,
                     double fill = 0.1) {
  ServiceSample out;
  out.model = kModel;
  out.tenant = kTenant;
  out.prompt_bytes = prompt * 4;
  out.prompt_tokens = prompt;
  out.output_tokens = output;
  out.fill = fill;
  out.to_first_token = first;
  out.held = first + per_token * static_cast<std::int64_t>(output - 1);
  return out;
}

ServiceQuery query(std::uint64_t prompt, std::uint64_t output, double fill = 0.1) {
  return {.model = kModel,
          .prompt_tokens = prompt,
          .output_tokens = output,
          .output_median = output,
          .output_least = 1,
          .fill = fill};
}

TEST(ServiceTimes, E2_class_defaults_are_marked_estimated_until_something_was_measured) {
  ServiceTimes times{Limits{}};
  const ServiceEstimate before = times.estimate(query(100, 10));
  EXPECT_EQ(before.basis, Basis::class_default);
  EXPECT_EQ(before.median, Duration::seconds(2));
  EXPECT_EQ(before.quick, Duration{}) << "a default refuses nobody";
  times.served(sample(100, 10, ms(100), ms(10)), kNow);
  EXPECT_EQ(times.estimate(query(100, 10)).basis, Basis::served);
  EXPECT_EQ(times.service(kModel, Priority::batch), Duration::seconds(10));
}

TEST(ServiceTimes, E2_self_test_rates_stand_in_until_a_job_was_served) {
  ServiceTimes times{Limits{}};
  ServiceQuery asked = query(200, 11);
  asked.self_test = {.prefill = 1000, .decode = 100};
  const ServiceEstimate before = times.estimate(asked);
  EXPECT_EQ(before.basis, Basis::self_test);
  EXPECT_EQ(before.median, ms(300));
  EXPECT_EQ(before.quick, ms(100)) << "half of the prompt's time, and one token";
  asked.self_test.prefill = 0;
  EXPECT_EQ(times.estimate(asked).basis, Basis::class_default) << "one rate alone tells nothing";
  asked.self_test.prefill = 1000;
  times.served(sample(200, 11, ms(50), ms(1)), kNow);
  EXPECT_EQ(times.estimate(asked).basis, Basis::served);
  EXPECT_EQ(times.estimate(asked).median, ms(60));
}

TEST(ServiceTimes, E2_prompt_and_output_count_by_their_own_rates) {
  ServiceTimes times{Limits{}};
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t prompt = 100 + 50 * static_cast<std::uint64_t>(i % 5);
    times.served(sample(prompt, 20, ms(30 + static_cast<std::int64_t>(prompt)), ms(10)),
                 kNow);  // 30 ms and 1 ms a token
  }
  EXPECT_NEAR(times.estimate(query(200, 100)).median.ms_double(), 230 + 990, 15);
  EXPECT_NEAR(times.estimate(query(1000, 1)).median.ms_double(), 1030, 30) << "a longer prompt than any seen";
}

TEST(ServiceTimes, E2_a_long_prompt_is_not_refused_for_the_overhead_of_short_ones) {
  ServiceTimes times{Limits{}};
  for (int i = 0; i < 40; ++i) times.served(sample(5, 20, ms(50), ms(10)), kNow);  // 10 ms a token, by the face of it
  EXPECT_LE(times.estimate(query(5000, 1)).quick, ms(50)) << "never extrapolated";
}

TEST(ServiceTimes, E2_a_full_batch_decodes_at_its_own_rate) {
  ServiceTimes times{Limits{}};
  for (int i = 0; i < 20; ++i) {
    times.served(sample(10, 101, ms(10), ms(10), 0.1), kNow);
    times.served(sample(10, 101, ms(10), ms(30), 1.0), kNow);
  }
  EXPECT_NEAR(times.estimate(query(10, 101, 0.2)).median.ms_double(), 1010, 5);
  EXPECT_NEAR(times.estimate(query(10, 101, 0.9)).median.ms_double(), 3010, 5);
  EXPECT_NEAR(times.estimate(query(10, 101, 0.6)).median.ms_double(), 3010, 5) << "the nearest that was measured";
  EXPECT_LE(times.estimate(query(10, 101, 1)).quick, ms(1010)) << "quick is the emptiest";
}

TEST(ServiceTimes, F2_expected_output_is_the_tenants_own) {
  ServiceTimes times{Limits{}};
  EXPECT_EQ(times.expected_output(kModel, kTenant, 400), 200u);
  for (int i = 0; i < 16; ++i) times.served(sample(10, i % 4 == 0 ? 90 : 30, ms(10), ms(1)), kNow);
  EXPECT_EQ(times.expected_output(kModel, kTenant, 400), 30u);
  EXPECT_EQ(times.expected_output(kModel, kTenant, 20), 20u) << "never more than is allowed";
  EXPECT_EQ(times.expected_output(kModel, "another", 400), 200u);
  EXPECT_EQ(times.output_quantile(kModel, kTenant, 0.9, 400), 90u);
}

TEST(ServiceTimes, tokens_of_a_prompt_follow_what_was_counted) {
  ServiceTimes times{Limits{}};
  EXPECT_EQ(times.prompt_tokens(kModel, 400), 100u);
  ServiceSample dense = sample(100, 10, ms(10), ms(1));
  dense.prompt_bytes = 200;
  for (int i = 0; i < 20; ++i) times.served(dense, kNow);
  EXPECT_EQ(times.prompt_tokens(kModel, 400), 200u);
}

TEST(ServiceTimes, models_and_tenants_are_bounded) {
  ServiceTimes times{Limits{}};
  ServiceSample each = sample(10, 10, ms(1), ms(1));
  for (int i = 0; i < 6000; ++i) {
    each.model = "m" + std::to_string(i % 1000);
    each.tenant = "t" + std::to_string(i);
    times.served(each, kNow + ms(i));
  }
  EXPECT_EQ(times.models(), ServiceTimes::kModelsMax);
  EXPECT_EQ(times.tenants(), ServiceTimes::kTenantsMax);
}

// --- drain rates ---

const DrainFlow kFlow{kTenant, Priority::interactive};

// A queue that has drained one job every `gap`, and still holds some.
Instant drained(DrainRates& drains, Duration gap) {
  Instant now = kNow;
  drains.waits(kFlow, now);
  for (int i = 0; i < 100; ++i) {
    now = now + gap;
    drains.left(kFlow, true, now);
  }
  return now;
}

TEST(DrainRates, OC_ADMIT_1001_jobs_that_never_waited_say_nothing) {
  DrainRates drains;
  Instant now = kNow;
  for (int i = 0; i < 50; ++i) {
    drains.waits(kFlow, now);
    drains.left(kFlow, false, now);
    now = now + Duration::seconds(60);
  }
  EXPECT_EQ(drains.interval(kFlow, ms(500), now), ms(500));
}

TEST(DrainRates, OC_ADMIT_1001_a_queue_that_stands_still_drains_more_slowly_than_it_did) {
  DrainRates drains;
  const Instant now = drained(drains, ms(100));
  EXPECT_NEAR(drains.interval(kFlow, ms(1), now).ms_double(), 100, 1);
  EXPECT_NEAR(drains.interval(kFlow, ms(1), now + ms(300)).ms_double(), 104, 3) << "one long gap is no new rate";
  EXPECT_GE(drains.interval(kFlow, ms(1), now + Duration::seconds(60)), ms(900));
}

TEST(DrainRates, OC_ADMIT_1001_the_nth_refusal_comes_after_those_before_it) {
  DrainRates drains;
  const Instant now = drained(drains, ms(100));
  for (int n = 1; n <= 20; ++n) {
    drains.refused(kFlow, now);
    EXPECT_NEAR(drains.retry_after(kFlow, 0, ms(1), 7, now).ms_double(), n * 100, n * 11);
  }
  EXPECT_NEAR(drains.retry_after(kFlow, 10, ms(1), 7, now).ms_double(), 3000, 310) << "ten places too many besides";
  drains.left(kFlow, true, now + ms(100));
  EXPECT_EQ(drains.refusals(kFlow), 19u) << "a place came free for one of them";
  drains.left(kFlow, false, now + ms(200));
  EXPECT_EQ(drains.refusals(kFlow), 0u) << "nothing waits any more";
}

TEST(DrainRates, OC_ADMIT_1001_another_tenant_has_its_own_line) {
  DrainRates drains;
  const Instant now = drained(drains, ms(100));
  for (int n = 0; n < 50; ++n) drains.refused(kFlow, now);
  const std::string other = "other";
  EXPECT_NEAR(drains.retry_after({other, Priority::interactive}, 0, ms(200), 7, now).ms_double(), 200, 21);
}

TEST(DrainRates, OC_ADMIT_1001_the_refused_are_spread_and_bounded) {
  DrainRates drains;
  Duration low = Duration::max();
  Duration high;
  for (std::uint64_t salt = 1; salt <= 200; ++salt) {
    const Duration told = drains.retry_after(kFlow, 0, Duration::seconds(2), salt, kNow);
    low = std::min(low, told);
    high = std::max(high, told);
  }
  EXPECT_GE(low, ms(1800));
  EXPECT_LE(high, ms(2200));
  EXPECT_GT(high - low, ms(300));
  EXPECT_EQ(drains.retry_after(kFlow, 1'000'000, Duration::seconds(2), 1, kNow), DrainRates::kToldMax);
  for (int i = 0; i < 6000; ++i) {
    const std::string tenant = "t" + std::to_string(i);
    drains.refused({tenant, Priority::batch}, kNow + ms(i));
  }
  EXPECT_EQ(drains.flows(), DrainRates::kFlowsMax);
}

// --- on time ---

OnTimeRecord::Position position(Duration predicted, Duration left, bool waits = true) {
  return {kModel, Priority::interactive, waits, predicted, left};
}

TEST(OnTime, ORCH3081_nothing_known_is_one_half) {
  EXPECT_EQ(OnTimeRecord{}.probability(position(ms(100), ms(1))), 0.5);
}

TEST(OnTime, ORCH3081_without_deadlines_the_ratio_to_the_prediction_answers) {
  OnTimeRecord record;
  for (int i = 1; i <= 100; ++i) {  // half of them took up to the predicted time, all up to twice that
    record.observe(position(ms(100), Duration::seconds(60)), {ms(2 * i), false, false}, kNow);
  }
  EXPECT_NEAR(record.probability(position(ms(100), ms(100))), 51.0 / 102, 1e-9);
  EXPECT_NEAR(record.probability(position(ms(1000), ms(1800))), 91.0 / 102, 1e-9);
  EXPECT_NEAR(record.probability(position(ms(100), ms(200))), 101.0 / 102, 1e-9);
}

TEST(OnTime, ORCH3081_the_similar_answer_for_a_deadline) {
  OnTimeRecord record;
  for (int i = 0; i < 128; ++i) {
    // The tight make it four times in five; the loose are overtaken and make it every second time.
    record.observe(position(ms(1000), ms(1200)), {i % 5 == 0 ? ms(1300) : ms(1000), i % 5 == 0, true}, kNow);
    record.observe(position(ms(1000), ms(9000)), {i % 2 == 0 ? ms(9000) : ms(5000), i % 2 == 0, true}, kNow);
  }
  EXPECT_NEAR(record.probability(position(ms(500), ms(610))), 0.8, 0.05);
  EXPECT_NEAR(record.probability(position(ms(500), ms(4000))), 0.5, 0.05);
}

TEST(OnTime, ORCH3081_a_job_that_was_cut_short_is_no_success) {
  OnTimeRecord record;
  for (int i = 0; i < 64; ++i) record.observe(position(ms(100), ms(500)), {ms(90), true, true}, kNow);
  EXPECT_LT(record.probability(position(ms(100), ms(500))), 0.05);
}

TEST(OnTime, ORCH3081_only_the_last_256_count) {
  OnTimeRecord record;
  for (int i = 0; i < 1000; ++i) record.observe(position(ms(100), ms(500)), {ms(600), true, true}, kNow);
  for (int i = 0; i < 256; ++i) record.observe(position(ms(100), ms(500)), {ms(100), false, true}, kNow);
  EXPECT_GT(record.probability(position(ms(100), ms(500))), 0.95);
}

// --- E3 ---

// Jobs that came once a second until kNow, due within two seconds, with this much work each.
struct Passing : Overtaking {
  explicit Passing(Duration work, std::size_t count = 17) {
    for (std::size_t i = 1; i <= count; ++i)
      arrived(flow, ms(2000), work, kNow - ms(1000) * static_cast<std::int64_t>(count - i));
  }
  Duration wait_of(Duration left, Duration ahead, double slots = 1) const {
    return wait(flow, left, ahead, slots, kNow);
  }
  const FlowId flow{kModel, Priority::interactive, kTenant};
};

TEST(Overtaking, OC_ADMIT_E3_a_loose_job_is_passed_by_those_to_come) {
  const Passing half(ms(500));  // 17 in 16 s: 0.53 of a slot
  EXPECT_EQ(half.wait_of(ms(1000), ms(900)), ms(900)) << "nobody who comes later is due before it";
  EXPECT_NEAR(half.wait_of(ms(60'000), ms(4000)).ms_double(), 4000 / (1 - 0.53125), 100);
  EXPECT_NEAR(half.wait_of(ms(8000), ms(4000)).ms_double(), 4000 + 0.53125 * 6000, 10) << "none passes it after 6 s";
  EXPECT_NEAR(half.wait_of(ms(60'000), ms(4000), 2).ms_double(), 2000 / (1 - 0.53125 / 2), 50);
  EXPECT_EQ(half.wait_of(ms(60'000), {}), Duration{}) << "who waits for nobody is passed by nobody";
}

TEST(Overtaking, OC_ADMIT_E3_more_than_there_is_room_for_ends_at_the_deadline) {
  EXPECT_EQ(Passing(ms(3000)).wait_of(ms(30'000), ms(4000)), ms(30'000));
  EXPECT_EQ(Passing(ms(3000)).wait_of(ms(3000), ms(4000)), ms(4000));
}

TEST(Overtaking, OC_ADMIT_E3_a_few_jobs_or_another_tenants_tell_nothing) {
  EXPECT_EQ(Passing(ms(500), Overtaking::kRecordMin - 1).wait_of(ms(60'000), ms(4000)), ms(4000));
  const Passing half(ms(500));
  EXPECT_EQ(half.wait({kModel, Priority::interactive, "other"}, ms(60'000), ms(4000), 1, kNow), ms(4000));
  EXPECT_EQ(half.wait({kModel, Priority::batch, kTenant}, ms(60'000), ms(4000), 1, kNow), ms(4000));
}

}  // namespace
}  // namespace orch::gateway
