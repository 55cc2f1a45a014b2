// The journal's encoding against what a damaged file may hold.
#include "orchestratord/shell/journal_codec.h"

#include <gtest/gtest.h>

#include "orchestratord/shell/journal_file_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

TEST(JournalCodec, what_is_cut_short_or_random_is_refused) {
  const std::string whole[] = {journal_codec::encode_admit(admit(1)),
                               journal_codec::encode_dispatch(dispatch(1)),
                               journal_codec::encode_tokens(tokens(1, 2, 5).events),
                               journal_codec::encode_terminal(*error_of(1, 3).terminal),
                               journal_codec::encode_started({3, ms(1)}),
                               journal_codec::encode_aboard(aboard(1)),
                               journal_codec::encode_managers(managers().managers)};
  const auto decodes = [](std::size_t kind, std::string_view bytes) {
    journal_codec::TokenEvents events;
    switch (kind) {
      case 0:
        return journal_codec::decode_admit(bytes).has_value();
      case 1:
        return journal_codec::decode_dispatch(bytes, job_id(1)).has_value();
      case 2:
        return journal_codec::decode_tokens(bytes, events);
      case 3:
        return journal_codec::decode_terminal(bytes) != nullptr;
      case 4:
        return journal_codec::decode_started(bytes).has_value();
      case 5:
        return journal_codec::decode_aboard(bytes, job_id(1)).has_value();
      default:
        return journal_codec::decode_managers(bytes).has_value();
    }
  };
  for (std::size_t kind = 0; kind < 7; ++kind) {
    EXPECT_TRUE(decodes(kind, whole[kind]));
    for (std::size_t size = 0; size < whole[kind].size(); ++size)
      EXPECT_FALSE(decodes(kind, std::string_view(whole[kind]).substr(0, size))) << kind << " " << size;
    EXPECT_FALSE(decodes(kind, whole[kind] + "x"));
    for (std::size_t at = 0; at < whole[kind].size(); ++at) {  // no byte may hurt
      std::string spoiled = whole[kind];
      spoiled[at] = static_cast<char>(spoiled[at] ^ 0xFF);
      decodes(kind, spoiled);
    }
  }
}

TEST(JournalCodec, OC_JOB_J3_what_shapes_a_draw_and_what_was_told_of_it_come_back) {
  AdmitRecord record = admit(1);
  JobPayload payload;
  payload.prompt.text = "x";
  payload.sampling.repetition_penalty = 1.25F;
  payload.sampling.frequency_penalty = 0.5F;
  payload.sampling.presence_penalty = -1.0F;
  payload.sampling.logit_bias = {{3, -100.0F}, {70000, 2.5F}};
  payload.sampling.choice = 2;
  payload.log_probs = 0;
  record.spec.store = true;
  record.spec.payload = std::make_shared<const JobPayload>(payload);
  const auto back = journal_codec::decode_admit(journal_codec::encode_admit(record));
  ASSERT_TRUE(back && back->spec.payload);
  const Sampling& sampling = back->spec.payload->sampling;
  EXPECT_EQ(sampling.repetition_penalty, 1.25F);
  EXPECT_EQ(sampling.frequency_penalty, 0.5F);
  EXPECT_EQ(sampling.presence_penalty, -1.0F);
  EXPECT_EQ(sampling.logit_bias, payload.sampling.logit_bias);
  EXPECT_EQ(sampling.choice, 2U);
  EXPECT_EQ(back->spec.payload->log_probs, 0U);

  const std::vector<TokenLogProbs> scores = {{{7, -0.5F, "\xE2"}, {{7, -0.5F, "\xE2"}, {9, -1.25F, ""}}}};
  const auto event = std::make_shared<StreamEvent>(StreamEvent{2, TokenEvent{0, {7}, "x", scores}});
  journal_codec::TokenEvents events;
  ASSERT_TRUE(journal_codec::decode_tokens(journal_codec::encode_tokens({event}), events));
  EXPECT_EQ(std::get<TokenEvent>(events.at(0)->body).log_probs, scores);
}

}  // namespace
}  // namespace orch::gateway
