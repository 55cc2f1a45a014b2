// The states of models between two lives of a gateway.
#include "orchestratord/shell/model_store.h"

#include <gtest/gtest.h>

namespace orch::gateway {
namespace {

TEST(ModelStore, OC_MODEL_1008_what_was_unloaded_is_read_back_as_it_was_stored) {
  const ModelStandings standings{{{"m", "sha256:a"}, {ModelState::draft, 0, true}},
                                 {{"m", "sha256:b"}, {ModelState::canary, 30, false}}};
  const auto read = parse_standings(standings_json(standings));
  ASSERT_TRUE(read.ok()) << read.error();
  EXPECT_EQ(*read, standings);
}

TEST(ModelStore, OC_MODEL_1008_nobody_sets_it_from_outside) {
  const auto set = parse_model_state(R"({"name":"m","digest":"sha256:a","state":"draft","unloaded":true})");
  ASSERT_FALSE(set.ok());
  EXPECT_EQ(set.error().field, "unloaded");
}

}  // namespace
}  // namespace orch::gateway
