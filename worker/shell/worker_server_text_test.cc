// Questions about text and scores over gRPC: what needs a lease, what reaches the engine, what comes back.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "worker/shell/worker_server.h"
#include "worker/shell/worker_server_fixture.h"

namespace orch::worker {
namespace {

v1::ScoreRequest score_message(int number) {
  const v1::Dispatch like = request(number);
  v1::ScoreRequest out;
  *out.mutable_fence() = like.fence();
  *out.mutable_holder() = holder();
  out.set_job_id(like.job_id());
  out.set_attempt(like.attempt());
  out.set_tenant_id("gold");
  out.set_query("Is it ");
  out.add_items("red");
  out.add_items("");
  out.add_label_token_ids(7);
  out.add_label_token_ids(9);
  out.set_apply_softmax(true);
  return out;
}

v1::EmbedRequest embed_message(int number) {
  const v1::Dispatch like = request(number);
  v1::EmbedRequest out;
  *out.mutable_fence() = like.fence();
  *out.mutable_holder() = holder();
  out.set_job_id(like.job_id());
  out.set_attempt(like.attempt());
  out.set_tenant_id("gold");
  out.mutable_prompt()->set_text("a text");
  out.set_pooling(v1::POOLING_MEAN);
  return out;
}

TEST_F(WorkerServerTest, OC_ENGINE_1020_tokens_and_rendered_text_need_no_lease) {
  grpc::ClientContext first;
  v1::TokenizeRequest question;
  question.mutable_prompt()->set_text("ab");
  v1::TokenizeReply tokens;
  ASSERT_TRUE(stub_->Tokenize(&first, question, &tokens).ok());
  EXPECT_EQ(tokens.ids_size(), 2);
  EXPECT_EQ(tokens.pieces_size(), 0);
  grpc::ClientContext second;
  question.set_with_pieces(true);
  ASSERT_TRUE(stub_->Tokenize(&second, question, &tokens).ok());
  ASSERT_EQ(tokens.pieces_size(), 2);
  EXPECT_EQ(tokens.pieces(1), "b");
  grpc::ClientContext third;
  v1::ApplyTemplateRequest conversation;
  v1::ApplyTemplateReply text;
  EXPECT_EQ(stub_->ApplyTemplate(&third, conversation, &text).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  auto* message = conversation.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  grpc::ClientContext fourth;
  ASSERT_TRUE(stub_->ApplyTemplate(&fourth, conversation, &text).ok());
  EXPECT_EQ(text.text(), "user:hi");
}

// Questions are answered one after another; those whose callers have gone must not be worked off behind a slow one.
TEST_F(WorkerServerTest, OC_WORKER_1005_a_question_whose_caller_has_gone_is_not_computed) {
  std::promise<void> let_go;
  const std::shared_future<void> released = let_go.get_future().share();
  std::atomic<int> computed{0};
  engine_.on_count([&computed, released] {
    ++computed;
    released.wait_for(std::chrono::seconds(20));
  });
  v1::CountTokensRequest question;
  question.mutable_prompt()->set_text("12345");
  for (int call = 0; call < 3; ++call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    v1::CountTokensReply reply;
    EXPECT_EQ(stub_->CountTokens(&context, question, &reply).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  // The server hears of the callers' going on the connection that these calls use too.
  for (int call = 0; call < 50; ++call) {
    grpc::ClientContext context;
    v1::WorkerInfo info;
    ASSERT_TRUE(stub_->GetInfo(&context, {}, &info).ok());
  }
  let_go.set_value();
  grpc::ClientContext context;
  v1::CountTokensReply reply;
  ASSERT_TRUE(stub_->CountTokens(&context, question, &reply).ok());
  EXPECT_EQ(computed, 2) << "the first, which was under way, and the last";
}

TEST_F(WorkerServerTest, L3_scores_need_a_lease) {
  grpc::ClientContext context;
  v1::ScoreReply reply;
  const grpc::Status status = stub_->Score(&context, score_message(1), &reply);
  EXPECT_EQ(status.error_message().substr(0, 11), "STALE_LEASE");
}

TEST_F(WorkerServerTest, OC_ENGINE_1021_scores_come_back_in_order_and_the_slot_is_free) {
  const auto manager = granted(1);
  grpc::ClientContext context;
  v1::ScoreReply reply;
  grpc::Status status;
  std::thread caller([&] { status = stub_->Score(&context, score_message(1), &reply); });
  ASSERT_TRUE(engine_.wait_score(1));
  const ScoreRequest seen = engine_.last_score();
  EXPECT_EQ(seen.query_text, "Is it ");
  EXPECT_EQ(seen.item_texts, (std::vector<std::string>{"red", ""}));
  EXPECT_EQ(seen.labels, (std::vector<std::uint32_t>{7, 9}));
  EXPECT_EQ(seen.tenant, "gold");
  EXPECT_TRUE(seen.apply_softmax);
  EXPECT_EQ(Reader(line(), request(2)).terminal(), "SLOT_BUSY");
  engine_.scored(dispatch(1), ScoreResult{{{0.25, 0.75}, {0.5, 0.5}}, 9, 4, true});
  caller.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(reply.rows_size(), 2);
  EXPECT_EQ(reply.rows(0).scores(1), 0.75);
  EXPECT_EQ(reply.usage().prompt_tokens(), 9u);
  EXPECT_EQ(reply.usage().cached_prompt_tokens(), 4u);
  EXPECT_TRUE(reply.query_shared());
  Reader next(line(), request(3));
  EXPECT_TRUE(engine_.wait_submitted(1));
}

TEST_F(WorkerServerTest, L5_a_caller_that_cancels_its_scores_frees_the_slot) {
  const auto manager = granted(1);
  grpc::ClientContext context;
  v1::ScoreReply reply;
  std::thread caller([&] { static_cast<void>(stub_->Score(&context, score_message(1), &reply)); });
  ASSERT_TRUE(engine_.wait_score(1));
  context.TryCancel();
  caller.join();
  ASSERT_TRUE(engine_.wait_canceled(1));
  manager->send(table(2, 1));
  EXPECT_TRUE(manager->read_until(
      [](const v1::ControlReport& report) { return report.version_counter() == 2 && report.uses().empty(); }));
}

TEST_F(WorkerServerTest, OC_ENGINE_1022_an_embedding_needs_a_lease_and_frees_its_slot) {
  grpc::ClientContext early;
  v1::EmbedReply reply;
  EXPECT_EQ(stub_->Embed(&early, embed_message(1), &reply).error_message().substr(0, 11), "STALE_LEASE");
  const auto manager = granted(1);
  grpc::ClientContext context;
  grpc::Status status;
  std::thread caller([&] { status = stub_->Embed(&context, embed_message(2), &reply); });
  ASSERT_TRUE(engine_.wait_embed(1));
  const EmbedRequest seen = engine_.last_embed();
  EXPECT_EQ(seen.prompt.text, "a text");
  EXPECT_EQ(seen.pooling, Pooling::mean);
  EXPECT_EQ(seen.tenant, "gold");
  EXPECT_EQ(Reader(line(), request(3)).terminal(), "SLOT_BUSY");
  engine_.embedded(dispatch(2), EmbedResult{{0.6F, 0.8F}, Pooling::mean, 5, 0});
  caller.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(reply.embedding_size(), 2);
  EXPECT_EQ(reply.embedding(1), 0.8F);
  EXPECT_EQ(reply.pooling(), v1::POOLING_MEAN);
  EXPECT_EQ(reply.usage().prompt_tokens(), 5u);
  Reader next(line(), request(4));
  EXPECT_TRUE(engine_.wait_submitted(1));
}

TEST_F(WorkerServerTest, OC_ENGINE_1022_bad_requests_for_an_embedding_name_the_field) {
  const auto refusal = [&](auto change) {
    v1::EmbedRequest message = embed_message(1);
    change(message);
    grpc::ClientContext context;
    v1::EmbedReply reply;
    const grpc::Status status = stub_->Embed(&context, message, &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  EXPECT_NE(refusal([](v1::EmbedRequest& m) { m.clear_prompt(); }).find("prompt: missing"), std::string::npos);
  EXPECT_NE(refusal([](v1::EmbedRequest& m) { m.mutable_prompt()->set_text(""); }).find("prompt.text"),
            std::string::npos);
  EXPECT_NE(refusal([](v1::EmbedRequest& m) { m.set_pooling(static_cast<v1::Pooling>(9)); }).find("pooling: 9"),
            std::string::npos);
  EXPECT_NE(refusal([](v1::EmbedRequest& m) { m.set_job_id("x"); }).find("job_id"), std::string::npos);
}

}  // namespace
}  // namespace orch::worker
