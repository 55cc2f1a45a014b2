// What callers of other threads see of prefixes that their jobs share.
#include <gtest/gtest.h>

#include "worker/shell/native_engine_fixture.h"

namespace orch::worker::engine_test {
namespace {

TEST(NativeEngine, OC_ENGINE_1016_a_known_prefix_is_told_and_changes_nothing) {
  World world({.instead = tiny_llama(261), .vocabulary = 261});
  world.wait_ready();
  const auto ask = [&](std::uint64_t number) {
    return world.submit(number, std::string(100, 'p'), 12, [](GenerationRequest& request) {
      request.seed = 4;
      request.log_probs = 2;
      request.frequency_penalty = 0.5F;
    });
  };
  const auto first = ask(1);
  first->wait_end();
  const auto second = ask(2);
  second->wait_end();
  EXPECT_EQ(first->result_->cached_prompt_tokens, 0u);
  EXPECT_EQ(second->result_->cached_prompt_tokens, 99u);
  EXPECT_EQ(second->ids_, first->ids_);
  EXPECT_EQ(second->scores_, first->scores_);
  ASSERT_EQ(first->scores_.size(), first->ids_.size());
  EXPECT_EQ(first->scores_[0].top.size(), 2u);
  EXPECT_EQ(world.engine->counters().cached_prompt_tokens_total, 99u);
}

// The second and the third come before the first one's only step; they are told to have started when it is over.
TEST(NativeEngine, OC_ENGINE_1026_jobs_start_with_what_the_one_before_them_computed) {
  Gate gate;
  std::promise<void> posted;  // they are prepared one after another
  World world({.prepare = [&](RememberingBackend& backend) { backend.before_step = [&] { gate.pass(); }; },
               .on_preparation =
                   [&](const DispatchId& id) {
                     if (id == job(9)) posted.set_value();
                   }});
  world.wait_ready();
  gate.allow(0);
  const auto neighbour = world.submit(8, "neighbour", 3);
  neighbour->wait_started();  // and its step is held
  std::vector<std::shared_ptr<Collector>> sinks;
  for (std::uint64_t number = 1; number <= 3; ++number) sinks.push_back(world.submit(number, std::string(100, 'p'), 5));
  const auto behind = world.submit(9, "behind", 1);
  posted.get_future().wait();
  gate.allow(1);
  sinks[0]->wait_started();
  EXPECT_FALSE(sinks[1]->is_started() || sinks[2]->is_started());
  gate.open();
  std::uint32_t found = 0;
  for (const auto& sink : sinks) {
    sink->wait_end();
    EXPECT_EQ(sink->started_cached_, found);
    EXPECT_EQ(sink->result_->cached_prompt_tokens, found);
    found = 99;
  }
  neighbour->wait_end();
  behind->wait_end();
}

TEST(NativeEngine, OC_ENGINE_1026_a_job_that_is_complete_when_it_comes_starts_and_ends) {
  World world;
  world.wait_ready();
  const auto done = world.submit(1, "ab", 2, [](GenerationRequest& request) { request.resume_ids = {5, 6}; });
  done->wait_end();
  EXPECT_EQ(done->started_, 2u);
  EXPECT_EQ(done->result_->reason, FinishReason::length);
}

}  // namespace
}  // namespace orch::worker::engine_test
