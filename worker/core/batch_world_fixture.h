// A batch over the remembering backend, stepped by hand, for tests of batching.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "worker/core/batch_fixture.h"
#include "worker/core/generation_batch.h"

namespace orch::worker::testing {

inline DispatchId job(std::uint64_t number) { return {{Uuid{0, number}}, 1}; }

inline SequenceRequest request(std::uint64_t number, std::string_view prompt, std::uint32_t max_tokens,
                               float temperature = 0) {
  SequenceRequest out;
  out.id = job(number);
  for (const char c : prompt) out.prompt.push_back(kFirstByte + static_cast<unsigned char>(c));
  out.max_tokens = max_tokens;
  out.sampling.temperature = temperature;
  out.seed = number;
  return out;
}

inline std::string text_of(std::size_t length, std::uint64_t seed) {
  Prng prng(seed);
  std::string out;
  for (std::size_t i = 0; i < length; ++i) out.push_back(static_cast<char>('a' + prng.below(26)));
  return out;
}

inline SequenceRequest of_tenant(SequenceRequest what, std::string tenant) {
  what.tenant = std::move(tenant);
  return what;
}

// Everything that can be asked for at once.
inline SequenceRequest rich(std::uint64_t number, std::string_view prompt, std::uint32_t max_tokens) {
  SequenceRequest out = request(number, prompt, max_tokens, 1.0F);
  out.sampling.repetition_penalty = 1.2F;
  out.sampling.frequency_penalty = 0.3F;
  out.sampling.presence_penalty = -0.2F;
  out.sampling.logit_bias = {{40, 1.5F}, {41, -100.0F}};
  out.log_probs = 3;
  return out;
}

struct Answer {
  std::vector<TokenId> ids;
  std::string text;
  std::vector<std::string> parts;            // of the text, one for each token and one for what the end released
  std::vector<TokenLogProbs> scores;         // per id, when asked for
  std::vector<TokenLogProbs> prompt_scores;  // likewise of the prompt
  std::optional<GenerationResult> result;
  std::optional<EmbedResult> embedded;
  std::optional<EngineFailure> failure;
};

inline void expect_same(const Answer& got, const Answer& expected) {
  EXPECT_EQ(got.ids, expected.ids);
  EXPECT_EQ(got.text, expected.text);
  EXPECT_EQ(got.scores, expected.scores);
  EXPECT_EQ(got.prompt_scores, expected.prompt_scores);
  EXPECT_EQ(got.result.has_value(), expected.result.has_value());
  EXPECT_EQ(got.embedded.has_value(), expected.embedded.has_value());
  if (got.embedded && expected.embedded) EXPECT_EQ(got.embedded->embedding, expected.embedded->embedding);
}

struct World {
  explicit World(BatchLimits given = {}, RememberingBackend::Script script = {})
      : limits(filled(given)),
        backend(limits.pages_total, limits.rows_max, std::move(script)),
        batch(limits, tokenizer) {}

  static BatchLimits filled(BatchLimits limits) {
    if (limits.slots == 1) limits.slots = 4;
    if (limits.context == 0) limits.context = 512;
    if (limits.pages_total == 0) limits.pages_total = 64;
    limits.vocabulary = kVocabulary;
    limits.embedding = kHidden;
    return limits;
  }
  std::optional<EngineFailure> admit(SequenceRequest what) {
    const auto admitted = batch.admit(std::move(what), now, events);
    absorb();
    if (!admitted.ok()) return admitted.error();
    cached = admitted.value();
    return std::nullopt;
  }
  bool step() {
    if (!batch.plan()) return false;
    for (const BatchStart& start : batch.starts()) {
      EXPECT_TRUE(started.emplace(start.id, start.cached_prompt_tokens).second) << "told twice";
    }
    std::vector<float> logits(std::size_t{batch.logit_rows()} * kVocabulary);
    std::vector<float> hidden(std::size_t{batch.hidden_rows()} * kHidden);
    EXPECT_TRUE(batch.run_on(backend, {logits, hidden}).ok());
    now = now + Duration::milliseconds(1);
    batch.complete(logits, hidden, now, events);
    absorb();
    return true;
  }
  void run() {
    while (step()) {
    }
  }
  void absorb() {
    for (BatchEvent& event : events) {
      Answer& answer = answers[event.id];
      EXPECT_FALSE(answer.result || answer.embedded || answer.failure) << "an event after the terminal one";
      if (auto* tokens = std::get_if<BatchTokens>(&event.what)) {
        EXPECT_EQ(tokens->index, first_index[event.id] + answer.ids.size());
        answer.ids.insert(answer.ids.end(), tokens->ids.begin(), tokens->ids.end());
        answer.text += tokens->text;
        answer.parts.push_back(tokens->text);
        for (TokenLogProbs& each : tokens->log_probs) answer.scores.push_back(std::move(each));
      } else if (auto* scores = std::get_if<BatchPromptScores>(&event.what)) {
        EXPECT_TRUE(answer.ids.empty());
        for (TokenLogProbs& each : scores->log_probs) answer.prompt_scores.push_back(std::move(each));
      } else if (auto* embedded = std::get_if<EmbedResult>(&event.what)) {
        answer.embedded = std::move(*embedded);
      } else if (const auto* result = std::get_if<GenerationResult>(&event.what)) {
        answer.result = *result;
      } else {
        answer.failure = std::get<EngineFailure>(event.what);
      }
    }
    events.clear();
  }

  BatchLimits limits;
  Tokenizer tokenizer = byte_tokenizer();
  RememberingBackend backend;
  GenerationBatch batch;
  Instant now{};
  std::vector<BatchEvent> events;
  std::map<DispatchId, Answer> answers;
  std::map<DispatchId, std::size_t> first_index;
  std::map<DispatchId, std::uint32_t> started;  // with so many prompt tokens found
  std::uint32_t cached = 0;                     // prompt tokens the last admitted job found in shared pages
};

inline Answer alone(const SequenceRequest& what) {
  World world;
  EXPECT_FALSE(world.admit(what).has_value());
  world.run();
  return world.answers[what.id];
}

// An attempt that goes on behind the first `cut` tokens tells what is left of the whole, and ends like it (M2).
inline void expect_rest(const Answer& rest, const Answer& whole, std::size_t cut) {
  const auto from = static_cast<std::ptrdiff_t>(cut);
  EXPECT_EQ(rest.ids, std::vector<TokenId>(whole.ids.begin() + from, whole.ids.end()));
  EXPECT_EQ(rest.parts, std::vector<std::string>(whole.parts.begin() + from, whole.parts.end()));
  const bool scored = !whole.scores.empty();
  EXPECT_EQ(rest.scores, std::vector<TokenLogProbs>(whole.scores.begin() + (scored ? from : 0), whole.scores.end()));
  ASSERT_TRUE(rest.result && whole.result);
  EXPECT_EQ(rest.result->reason, whole.result->reason);
  EXPECT_EQ(rest.result->prompt_tokens, whole.result->prompt_tokens);
  EXPECT_EQ(rest.result->completion_tokens, whole.result->completion_tokens);
}

}  // namespace orch::worker::testing
