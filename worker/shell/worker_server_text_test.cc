// Questions about text and scores over gRPC: what needs a lease, what reaches the engine, what comes back.
#include <gtest/gtest.h>

#include <thread>

#include "worker/shell/worker_server.h"
#include "worker/shell/worker_server_fixture.h"

namespace orch::worker {
namespace {

v1::ScoreRequest score_message(int number) {
  const v1::GenerateRequest like = request(number);
  v1::ScoreRequest out;
  *out.mutable_fence() = like.fence();
  *out.mutable_holder() = like.holder();
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
  grpc::ClientContext fifth;
  v1::EmbedReply embedding;
  EXPECT_EQ(stub_->Embed(&fifth, v1::EmbedRequest(), &embedding).error_code(), grpc::StatusCode::UNIMPLEMENTED);
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
  EXPECT_EQ(Reader(*stub_, request(2)).terminal(), "SLOT_BUSY");
  engine_.scored(dispatch(1), ScoreResult{{{0.25, 0.75}, {0.5, 0.5}}, 9, 4, true});
  caller.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(reply.rows_size(), 2);
  EXPECT_EQ(reply.rows(0).scores(1), 0.75);
  EXPECT_EQ(reply.usage().prompt_tokens(), 9u);
  EXPECT_EQ(reply.usage().cached_prompt_tokens(), 4u);
  EXPECT_TRUE(reply.query_shared());
  Reader next(*stub_, request(3));
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

}  // namespace
}  // namespace orch::worker
