// One vector of a text: which rows make it, and how its length becomes 1.
#include "worker/core/pooling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "worker/core/batch_world_fixture.h"

namespace orch::worker {
namespace {

using testing::Answer;
using testing::job;
using testing::request;
using testing::World;

SequenceRequest text(std::uint64_t number, std::string_view prompt, Pooling pooling) {
  SequenceRequest out = request(number, prompt, 1);
  out.pooling = pooling;
  return out;
}

std::vector<float> pooled(Pooling pooling, const std::vector<std::vector<float>>& rows) {
  RowPool pool(pooling, static_cast<std::uint32_t>(rows.size()));
  for (std::uint32_t i = 0; i < rows.size(); ++i) {
    if (pool.needs(i)) pool.take(i, rows[i]);
  }
  return pool.vector().value_or(std::vector<float>());
}

TEST(RowPool, OC_NUM_1410_each_pooling_takes_its_rows_and_the_length_is_one) {
  const std::vector<std::vector<float>> rows = {{3, 4}, {0, 2}, {-6, 0}};
  const auto near = [](const std::vector<float>& got, double x, double y) {
    ASSERT_EQ(got.size(), 2u);
    EXPECT_NEAR(static_cast<double>(got[0]), x, 1e-6);
    EXPECT_NEAR(static_cast<double>(got[1]), y, 1e-6);
  };
  near(pooled(Pooling::cls, rows), 0.6, 0.8);
  near(pooled(Pooling::last, rows), -1, 0);
  near(pooled(Pooling::mean, rows), -1 / std::sqrt(5.0), 2 / std::sqrt(5.0));
}

TEST(RowPool, OC_NUM_1410_what_has_no_direction_is_no_vector) {
  EXPECT_TRUE(pooled(Pooling::mean, {{1, -1}, {-1, 1}}).empty());
  EXPECT_TRUE(pooled(Pooling::last, {{1, std::numeric_limits<float>::infinity()}}).empty());
  EXPECT_TRUE(pooled(Pooling::last, {{1, std::numeric_limits<float>::quiet_NaN()}}).empty());
  EXPECT_TRUE(pooled(Pooling::last, {{1e30F, 0}}).empty()) << "its square is beyond what a float holds";
}

TEST(Embeddings, OC_ENGINE_1022_only_the_rows_that_are_needed_are_asked_for) {
  for (const auto& [pooling, rows] : {std::pair{Pooling::mean, 50u}, {Pooling::cls, 1u}, {Pooling::last, 1u}}) {
    World world;
    ASSERT_FALSE(world.admit(text(1, std::string(50, 'a'), pooling)).has_value());
    ASSERT_TRUE(world.batch.plan());
    EXPECT_EQ(world.batch.hidden_rows(), rows);
    EXPECT_EQ(world.batch.logit_rows(), 0u);
    world.run();
    ASSERT_TRUE(world.answers[job(1)].embedded.has_value());
    EXPECT_EQ(world.answers[job(1)].embedded->pooling, pooling);
    EXPECT_EQ(world.answers[job(1)].embedded->prompt_tokens, 50u);
    EXPECT_EQ(world.batch.running(), 0u);
    EXPECT_EQ(world.batch.pages_used(), 0u);
  }
}

// Chunks, neighbours, shared prefixes and lost pages change no byte.
TEST(Embeddings, OC_ENGINE_1022_a_vector_is_that_of_the_text_alone) {
  const std::string prompt = std::string(70, 'p') + "the rest";
  for (const Pooling pooling : {Pooling::mean, Pooling::cls, Pooling::last}) {
    World alone;
    ASSERT_FALSE(alone.admit(text(1, prompt, pooling)).has_value());
    alone.run();
    const auto expected = alone.answers[job(1)].embedded;
    ASSERT_TRUE(expected.has_value());
    for (const std::uint32_t rows : {5u, 17u, 64u}) {
      World world({.rows_max = rows});
      ASSERT_FALSE(world.admit(request(2, std::string(70, 'p') + "x", 30)).has_value());
      for (int i = 0; i < 20; ++i) world.step();  // its pages can be found
      ASSERT_FALSE(world.admit(text(1, prompt, pooling)).has_value());
      EXPECT_EQ(world.cached, pooling == Pooling::last ? 64u : 0u) << "a row that is needed is computed";
      ASSERT_FALSE(world.admit(text(3, "another text", pooling)).has_value());
      if (rows < 64) {
        world.step();
        const bool taken = world.batch.preempt(job(1));
        if (pooling != Pooling::last) EXPECT_TRUE(taken) << "it is not done in one step";
      }
      world.run();
      ASSERT_TRUE(world.answers[job(1)].embedded.has_value()) << rows;
      EXPECT_EQ(world.answers[job(1)].embedded->embedding, expected->embedding) << rows;
      EXPECT_NE(world.answers[job(3)].embedded->embedding, expected->embedding);
      EXPECT_EQ(world.answers[job(2)].ids, testing::alone(request(2, std::string(70, 'p') + "x", 30)).ids);
    }
  }
}

TEST(Embeddings, OC_ENGINE_1022_they_hold_no_slot_and_their_bounds_are_named) {
  World world({.slots = 2});
  for (std::uint64_t number = 1; number <= 3; ++number) {
    EXPECT_FALSE(world.admit(text(number, "some text", Pooling::mean)).has_value());
  }
  EXPECT_EQ(world.batch.slots_used(), 0u);
  EXPECT_EQ(world.batch.running(), 3u);
  const auto refused = world.admit(text(4, std::string(512, 'x'), Pooling::mean));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->outcome, Outcome::CONTEXT_OVERFLOW);
  std::vector<BatchEvent> ended;
  EXPECT_TRUE(world.batch.cancel(job(2), ended));
  world.run();
  EXPECT_TRUE(world.answers[job(1)].embedded && world.answers[job(3)].embedded);
}

TEST(Embeddings, OC_ENGINE_1022_a_backend_without_hidden_states_refuses) {
  const Tokenizer tokenizer = testing::byte_tokenizer();
  const auto checked = GenerationBatch::check(
      text(1, "some text", Pooling::mean),
      {.context = 512, .pages_total = 64, .vocabulary = testing::kVocabulary, .embedding = 0}, tokenizer);
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().outcome, Outcome::NOT_IMPLEMENTED);
  EXPECT_EQ(checked.error().field, "pooling");
}

}  // namespace
}  // namespace orch::worker
