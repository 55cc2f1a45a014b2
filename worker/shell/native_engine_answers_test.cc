// What callers of other threads see of the engine beside generations: text, scores, embeddings.
#include <gtest/gtest.h>

#include "worker/shell/native_engine_fixture.h"

namespace orch::worker::engine_test {
namespace {

TEST(NativeEngine, OC_ENGINE_1020_tokens_and_templates_are_those_of_a_generation) {
  World world({.chat_template = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"});
  world.wait_ready();
  EnginePrompt chat;
  chat.messages = {{"user", "ab<|im_end|>"}};
  const auto tokens = world.engine->tokenize(chat);
  ASSERT_TRUE(tokens.ok());
  EXPECT_EQ(tokens->ids.size(), world.engine->count_tokens(chat)->first);
  std::string text;
  for (const std::string& piece : tokens->pieces) text += piece;
  EXPECT_EQ(text, "ab<|im_end|><|im_end|>");
  EXPECT_EQ(tokens->pieces.back(), "<|im_end|>") << "one token, by its name";
  EXPECT_EQ(tokens->ids.back(), testing::kEndToken);
  EXPECT_EQ(*world.engine->apply_template(chat), text);
  EnginePrompt ids;
  ids.token_ids = {testing::kVocabulary};
  EXPECT_EQ(world.engine->tokenize(ids).error().field, "prompt.token_ids");
  EXPECT_EQ(world.engine->apply_template(ids).error().field, "messages");
}

template <typename Answer>
class AnswerCollector final : public AnswerSink<Answer> {
 public:
  void answered(const Answer& result) override { done_.set_value(result); }
  void failed(const EngineFailure& failure) override { done_.set_value(Err{failure}); }
  Result<Answer, EngineFailure> wait() {
    auto future = done_.get_future();
    ORCH_CHECK(future.wait_for(kPatience) == std::future_status::ready);
    return future.get();
  }

 private:
  std::promise<Result<Answer, EngineFailure>> done_;
};

ScoreRequest score_request(std::uint64_t number, std::size_t items) {
  ScoreRequest request;
  request.id = job(number);
  request.query_text = std::string(100, 'q');
  for (std::size_t i = 0; i < items; ++i) request.item_texts.push_back(std::string(i % 7, static_cast<char>('a' + i)));
  request.labels = {70, 71, 70, 200};
  return request;
}

Result<ScoreResult, EngineFailure> score(World& world, ScoreRequest request) {
  const auto sink = std::make_shared<AnswerCollector<ScoreResult>>();
  world.engine->score(std::move(request), sink);
  return sink->wait();
}

TEST(NativeEngine, OC_ENGINE_1021_items_that_share_a_query_score_as_alone) {
  World world({.instead = tiny_llama(261), .vocabulary = 261});
  world.wait_ready();
  const auto running = world.submit(50, "neighbour", 200);  // generations go on beside it
  const auto together = score(world, score_request(1, 32));
  ASSERT_TRUE(together.ok()) << together.error().message;
  ASSERT_EQ(together->scores.size(), 32u);
  EXPECT_TRUE(together->query_shared);
  EXPECT_GE(together->cached_prompt_tokens, 31u * 96u);
  for (std::size_t item = 0; item < 32; item += 5) {
    World fresh({.instead = tiny_llama(261), .vocabulary = 261});
    fresh.wait_ready();
    ScoreRequest one = score_request(2, 32);
    one.item_texts = {one.item_texts[item]};
    const auto alone = score(fresh, one);
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ(alone->scores[0], together->scores[item]) << item;
    EXPECT_EQ(alone->cached_prompt_tokens, 0u);
  }
  for (const auto& row : together->scores) {
    ASSERT_EQ(row.size(), 4u);
    EXPECT_EQ(row[0], row[2]) << "a label asked for twice";
    EXPECT_LT(row[0] + row[1] + row[3], 1.0);
  }
  ScoreRequest softmax = score_request(3, 32);
  softmax.apply_softmax = true;
  const auto normed = score(world, softmax);
  ASSERT_TRUE(normed.ok());
  for (std::size_t i = 0; i < 32; ++i) {
    const std::vector<double>& row = normed->scores[i];
    EXPECT_NEAR(row[0] + row[1] + row[2] + row[3], 1.0, 1e-12);
    EXPECT_NEAR(row[1] / row[0], together->scores[i][1] / together->scores[i][0], 1e-9);
  }
  ScoreRequest turned = score_request(4, 3);
  turned.item_first = true;
  const auto serial = score(world, turned);
  ASSERT_TRUE(serial.ok());
  EXPECT_FALSE(serial->query_shared);
  world.engine->cancel(job(50));
  running->wait_end();
}

// The work is counted, not timed: rows that the backend was given.
TEST(NativeEngine, OC_ENGINE_1021_thirty_two_items_cost_less_than_a_third_of_one_by_one) {
  const auto rows_for = [](bool item_first) {
    World world;
    world.wait_ready();
    ScoreRequest request = score_request(1, 32);
    request.query_text = std::string(160, 'q') + "uery:";
    for (std::size_t i = 0; i < 32; ++i) request.item_texts[i] = std::string(20, static_cast<char>('0' + i));
    request.item_first = item_first;
    const std::size_t steps = world.backend->rows_of_steps.size();  // the self-test
    const auto scored = score(world, request);
    ORCH_CHECK(scored.ok());
    EXPECT_EQ(scored->query_shared, !item_first);
    std::uint32_t rows = 0;
    const std::vector<std::uint32_t>& all = world.backend->rows_of_steps;
    for (std::size_t i = steps; i < all.size(); ++i) rows += all[i];
    EXPECT_EQ(rows, scored->prompt_tokens - scored->cached_prompt_tokens) << "the reply tells what was computed";
    return rows;
  };
  const std::uint32_t serial = rows_for(true);
  const std::uint32_t shared = rows_for(false);
  EXPECT_GE(serial, 3 * shared) << serial << " and " << shared << " rows";
  RecordProperty("rows_one_by_one", static_cast<int>(serial));
  RecordProperty("rows_shared", static_cast<int>(shared));
}

// Rows and scores: of the query nothing is computed twice, whatever its length, and nobody's scores show it.
TEST(NativeEngine, OC_ENGINE_1021_a_query_is_shared_to_the_token_however_short) {
  for (const std::size_t query : {1u, 20u, 32u, 77u}) {
    const auto scored = [query](World& world, std::size_t first, std::size_t items) {
      world.wait_ready();
      ScoreRequest request = score_request(1, items);
      request.query_text = std::string(query, 'q');
      for (std::size_t i = 0; i < items; ++i)
        request.item_texts[i] = std::string(first + i, static_cast<char>('a' + first + i));
      const auto result = score(world, request);
      ORCH_CHECK(result.ok());
      return result.value();
    };
    World together({.instead = tiny_llama(261), .vocabulary = 261});
    const ScoreResult all = scored(together, 0, 6);
    EXPECT_TRUE(all.query_shared);
    EXPECT_EQ(all.prompt_tokens, 6 * query + 15);
    // The first item is the query alone.
    EXPECT_EQ(all.cached_prompt_tokens, 5 * query);
    for (std::size_t item = 0; item < 6; ++item) {
      World fresh({.instead = tiny_llama(261), .vocabulary = 261});
      const ScoreResult one = scored(fresh, item, 1);
      EXPECT_EQ(one.scores[0], all.scores[item]) << query << " " << item;
      EXPECT_EQ(one.cached_prompt_tokens, 0u);
      EXPECT_TRUE(one.query_shared) << "computed once, for there is one item";
    }
  }
}

TEST(NativeEngine, OC_ENGINE_1021_bad_requests_for_scores_name_kind_and_field) {
  World world;
  world.wait_ready();
  const auto refusal = [&](auto change) {
    ScoreRequest request = score_request(1, 2);
    change(request);
    const auto scored = score(world, std::move(request));
    if (scored.ok()) return std::string("scored");
    return scored.error().field + " " + scored.error().message.substr(0, scored.error().message.find(':'));
  };
  const auto by_ids = [](ScoreRequest& r, std::vector<TokenId> query, std::vector<TokenId> second) {
    r.query_text.clear();
    r.item_texts.clear();
    r.query_ids = std::move(query);
    r.item_ids = {{1}, std::move(second)};
  };
  constexpr TokenId kOver = testing::kVocabulary;
  EXPECT_EQ(refusal([&](ScoreRequest& r) { by_ids(r, {1}, {1}); }), "scored");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.query_text.clear(); }), "query empty_query");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.item_texts.clear(); }), "items empty_items");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.labels.clear(); }), "label_token_ids empty_label_token_ids");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.item_ids = {{1}}; }), "items mixed_input_types");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.query_text.clear(), r.query_ids = {1}; }), "items mixed_input_types");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.labels = {kOver}; }), "label_token_ids token_id_exceeds_vocab");
  EXPECT_EQ(refusal([&](ScoreRequest& r) { by_ids(r, {1, kOver}, {1}); }), "query_ids token_id_exceeds_vocab");
  EXPECT_EQ(refusal([&](ScoreRequest& r) { by_ids(r, {1}, {kOver}); }), "item_ids token_id_exceeds_vocab");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.item_texts.assign(1025, "x"); }), "items too_many_items");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.labels.assign(129, 1); }), "label_token_ids too_many_labels");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.query_text.assign(600, 'x'); }), "items prompt_too_long");
  EXPECT_EQ(world.engine->counters().running, 0u);
}

TEST(NativeEngine, L5_a_cancel_ends_a_request_for_scores) {
  Gate gate;
  World world({.prepare = [&](RememberingBackend& backend) { backend.before_step = [&] { gate.pass(); }; }});
  world.wait_ready();
  gate.allow(2);
  const auto sink = std::make_shared<AnswerCollector<ScoreResult>>();
  world.engine->score(score_request(1, 500), sink);
  world.engine->cancel(job(1));
  gate.open();
  const auto ended = sink->wait();
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().outcome, Outcome::CANCELED);
  EXPECT_EQ(world.engine->counters().kv_pages_used, 0u);
}

// E5, while it waits for pages too: the engine stands still behind 20 steps of 1 ms, the deadline is 5 ms.
TEST(NativeEngine, E5_a_request_for_scores_that_waits_for_pages_ends_at_its_deadline) {
  Gate gate;
  std::atomic<std::int64_t>* clock = nullptr;
  World world({.pages = 16, .prepare = [&](RememberingBackend& backend) {
                 backend.before_step = [&] {
                   gate.pass();
                   if (clock != nullptr) *clock += 1'000'000;
                 };
               }});
  world.wait_ready();
  gate.allow(0);
  clock = &world.clock_ns;
  const auto running = world.submit(1, std::string(400, 'x'), 100);
  const auto sink = std::make_shared<AnswerCollector<ScoreResult>>();
  ScoreRequest request = score_request(2, 3);
  request.deadline = Duration::milliseconds(5);
  world.engine->score(std::move(request), sink);
  gate.allow(20);
  const auto ended = sink->wait();
  ASSERT_FALSE(ended.ok()) << "an answer behind its deadline is none";
  EXPECT_EQ(ended.error().outcome, Outcome::DECODE_TIMEOUT);
  EXPECT_EQ(ended.error().field, "deadline_ms");
  EXPECT_FALSE(running->result_.has_value());
  gate.open();
  running->wait_end();
  EXPECT_TRUE(running->result_.has_value());
  EXPECT_EQ(world.engine->counters().running, 0u);
}

EmbedRequest embed_request(std::uint64_t number, std::string text, std::optional<Pooling> pooling) {
  EmbedRequest request;
  request.id = job(number);
  request.prompt.text = std::move(text);
  request.pooling = pooling;
  return request;
}

Result<EmbedResult, EngineFailure> embed(World& world, EmbedRequest request) {
  const auto sink = std::make_shared<AnswerCollector<EmbedResult>>();
  world.engine->embed(std::move(request), sink);
  return sink->wait();
}

TEST(NativeEngine, OC_ENGINE_1022_a_vector_is_the_same_alone_and_among_generations) {
  const std::string text(90, 't');
  for (const Pooling pooling : {Pooling::mean, Pooling::cls, Pooling::last}) {
    World quiet({.instead = tiny_llama(261), .vocabulary = 261, .embedding = testing::TinyShape{}.embedding});
    quiet.wait_ready();
    const auto alone = embed(quiet, embed_request(1, text, pooling));
    ASSERT_TRUE(alone.ok()) << alone.error().message;
    EXPECT_EQ(alone->embedding.size(), testing::TinyShape{}.embedding);
    double square = 0;
    for (const float each : alone->embedding) square += static_cast<double>(each) * static_cast<double>(each);
    EXPECT_NEAR(square, 1, 1e-5);
    World busy({.instead = tiny_llama(261), .vocabulary = 261, .embedding = testing::TinyShape{}.embedding});
    busy.wait_ready();
    const auto first = busy.submit(50, text, 200);
    const auto second = busy.submit(51, "neighbour", 200);
    first->wait_tokens(1);
    const auto among = embed(busy, embed_request(1, text, pooling));
    ASSERT_TRUE(among.ok());
    EXPECT_EQ(among->embedding, alone->embedding);
    EXPECT_EQ(among->pooling, pooling);
    busy.engine->cancel(job(50));
    busy.engine->cancel(job(51));
    first->wait_end();
    second->wait_end();
  }
}

TEST(NativeEngine, OC_ENGINE_1022_the_model_decides_where_the_request_names_no_pooling) {
  World says({.embedding = testing::kHidden, .pooling = Pooling::mean});
  says.wait_ready();
  EXPECT_EQ(embed(says, embed_request(1, "a text", std::nullopt))->pooling, Pooling::mean);
  EXPECT_EQ(embed(says, embed_request(2, "a text", Pooling::cls))->pooling, Pooling::cls);
  EXPECT_EQ(says.engine->counters().running, 0u);
  World unbuilt({.embedding = testing::kHidden, .pooling = std::nullopt});
  unbuilt.wait_ready();
  const auto refused = embed(unbuilt, embed_request(1, "a text", std::nullopt));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(refused.error().field, "pooling");
  EXPECT_TRUE(embed(unbuilt, embed_request(2, "a text", Pooling::last)).ok());
}

TEST(NativeEngine, OC_ENGINE_1022_bad_requests_for_an_embedding_are_typed) {
  World world({.embedding = testing::kHidden});
  world.wait_ready();
  EXPECT_EQ(embed(world, embed_request(1, "", Pooling::mean)).error().field, "prompt");
  EXPECT_EQ(embed(world, embed_request(1, std::string(600, 'x'), Pooling::mean)).error().outcome,
            Outcome::CONTEXT_OVERFLOW);
  World without;
  without.wait_ready();
  EXPECT_EQ(embed(without, embed_request(1, "x", Pooling::mean)).error().outcome, Outcome::NOT_IMPLEMENTED);
  World failed({.load_failure = EngineFailure{Outcome::POOL_UNREADY, "wrong", ""}});
  EXPECT_EQ(embed(failed, embed_request(1, "x", Pooling::mean)).error().outcome, Outcome::POOL_UNREADY);
}

TEST(NativeEngine, L5_a_cancel_ends_an_embedding_and_a_second_one_of_its_name_is_refused) {
  Gate gate;
  World world({.prepare = [&](RememberingBackend& backend) { backend.before_step = [&] { gate.pass(); }; },
               .embedding = testing::kHidden});
  world.wait_ready();
  gate.allow(0);
  const auto running = world.submit(9, "neighbour", 100);
  const auto first = std::make_shared<AnswerCollector<EmbedResult>>();
  const auto second = std::make_shared<AnswerCollector<EmbedResult>>();
  world.engine->embed(embed_request(1, std::string(400, 'x'), Pooling::mean), first);
  world.engine->embed(embed_request(1, "x", Pooling::mean), second);
  world.engine->cancel(job(1));
  gate.open();
  const auto ended = first->wait();
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().outcome, Outcome::CANCELED);
  EXPECT_EQ(second->wait().error().outcome, Outcome::DUPLICATE_ATTEMPT);
  running->wait_end();
  EXPECT_EQ(world.engine->counters().kv_pages_used, 0u);
}

}  // namespace
}  // namespace orch::worker::engine_test
