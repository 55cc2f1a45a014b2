// States of models, where requests go, canaries, roll-back.
#include <gtest/gtest.h>

#include "orchestratord/core/model_lifecycle.h"

namespace orch::gateway {
namespace {

using enum ModelState;
const std::string kOld = "sha256:old";
const std::string kNew = "sha256:new";

ModelLifecycle::Route ask(const ModelLifecycle& models, const std::string& spread = "s", bool known_session = false) {
  return models.route({"m", {}, spread, {kNew, kOld}, known_session});
}

TEST(ModelLifecycle, OC_MODEL_1002_the_table_of_changes) {
  std::string table;
  for (const ModelState from : {draft, active, canary, deprecated, retired}) {
    for (const ModelState to : {draft, active, canary, deprecated, retired}) {
      if (may_change(from, to)) table += std::string(model_state_name(from)) + ">" + model_state_name(to) + " ";
    }
  }
  EXPECT_EQ(table,
            "draft>active draft>canary draft>retired active>canary active>deprecated active>retired canary>draft "
            "canary>active canary>canary canary>retired deprecated>active deprecated>retired retired>draft ");
  ModelLifecycle models({{{"m", kOld}, {retired, 0}}});
  const auto failure = models.change({"m", kOld}, {active, 0});
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::CONFLICT);
  EXPECT_EQ(failure->field, "state");
  EXPECT_EQ(models.of({"m", kOld}).state, retired);
}

TEST(ModelLifecycle, OC_MODEL_1001_what_nobody_has_set_is_active) {
  const ModelLifecycle models;
  EXPECT_EQ(models.of({"m", kOld}).state, active);
  EXPECT_FALSE(ask(models).refused);
  EXPECT_TRUE(ask(models).digest.empty());
}

TEST(ModelLifecycle, OC_MODEL_1003_a_canary_gets_its_share_and_sessions_stay) {
  ModelLifecycle models({{{"m", kNew}, {draft, 0}}});
  EXPECT_EQ(ask(models).digest, kOld) << "a draft is not served by name";
  ASSERT_FALSE(models.change({"m", kNew}, {canary, 10}));
  std::vector<std::string> moved;
  for (int i = 0; i < 10'000; ++i) {
    const std::string session = "session-" + std::to_string(i);
    const auto route = ask(models, session);
    EXPECT_FALSE(route.refused);
    if (route.digest == kNew) moved.push_back(session);
    EXPECT_EQ(ask(models, session).digest, route.digest);
  }
  EXPECT_NEAR(static_cast<double>(moved.size()), 1000, 100);
  ASSERT_FALSE(models.change({"m", kNew}, {canary, 50}));
  for (const std::string& session : moved)
    EXPECT_EQ(ask(models, session).digest, kNew) << "a growing share takes nobody back";
  ASSERT_FALSE(models.change({"m", kNew}, {canary, 100}));
  EXPECT_EQ(ask(models, "anybody").digest, kNew);
}

TEST(ModelLifecycle, OC_MODEL_1003_one_canary_per_name_and_a_share_of_one_to_a_hundred) {
  ModelLifecycle models({{{"m", kNew}, {draft, 0}}, {{"m", kOld}, {draft, 0}}});
  EXPECT_EQ(models.change({"m", kNew}, {canary, 0})->field, "percent");
  EXPECT_EQ(models.change({"m", kNew}, {canary, 101})->field, "percent");
  EXPECT_EQ(models.change({"m", kNew}, {active, 5})->field, "percent");
  ASSERT_FALSE(models.change({"m", kNew}, {canary, 5}));
  EXPECT_EQ(models.change({"m", kOld}, {canary, 5})->outcome, Outcome::CONFLICT);
}

TEST(ModelLifecycle, ORCH3070_a_deprecated_model_serves_only_the_sessions_it_has) {
  ModelLifecycle models;
  ASSERT_FALSE(models.change({"m", kOld}, {deprecated, 0}));
  const ModelLifecycle::Question fresh{"m", {}, "s", {kOld}, false};
  EXPECT_EQ(models.route(fresh).refused, Outcome::MODEL_DEPRECATED);
  EXPECT_FALSE(models.route({"m", {}, "s", {kOld}, true}).refused);
  EXPECT_EQ(models.route({"m", kOld, "s", {kOld}, false}).refused, Outcome::MODEL_DEPRECATED);
  EXPECT_EQ(ask(models).digest, kNew) << "another active digest of the name serves";
}

TEST(ModelLifecycle, OC_MODEL_1005_retired_and_draft_serve_nobody_and_are_not_wanted) {
  ModelLifecycle models({{{"m", kOld}, {retired, 0}}, {{"n", kOld}, {draft, 0}}});
  EXPECT_EQ(models.route({"m", {}, "s", {kOld}, true}).refused, Outcome::MODEL_DEPRECATED);
  EXPECT_EQ(models.route({"n", {}, "s", {kOld}, true}).refused, Outcome::MODEL_NOT_FOUND);
  EXPECT_EQ(models.route({"n", kOld, "s", {kOld}, true}).refused, Outcome::MODEL_NOT_FOUND);
  EXPECT_FALSE(models.wanted({"m", kOld}));
  EXPECT_FALSE(models.wanted({"n", kOld}));
  EXPECT_TRUE(models.wanted({"m", kNew}));
}

TEST(ModelLifecycle, ORCH3033_one_action_undoes_the_last_change_of_a_name) {
  ModelLifecycle models({{{"m", kNew}, {draft, 0}}});
  EXPECT_EQ(models.roll_back("m")->outcome, Outcome::NOT_FOUND);
  ASSERT_FALSE(models.change({"m", kNew}, {canary, 20}));
  const ModelStandings canary_state = models.all();
  ASSERT_FALSE(models.change({"m", kNew}, {active, 0}));
  ASSERT_FALSE(models.change({"other", kNew}, {deprecated, 0}));
  ASSERT_FALSE(models.roll_back("m"));
  EXPECT_EQ(models.of({"m", kNew}), (ModelStanding{canary, 20}));
  EXPECT_EQ(models.of({"other", kNew}).state, deprecated) << "of that name only";
  ASSERT_FALSE(models.roll_back("m"));
  EXPECT_EQ(models.of({"m", kNew}).state, active) << "and a roll-back can be undone too";
}

TEST(ModelLifecycle, what_is_kept_is_bounded) {
  ModelLifecycle models;
  for (std::size_t i = 0; i < ModelLifecycle::kModelsMax; ++i)
    ASSERT_FALSE(models.change({"m" + std::to_string(i), kOld}, {deprecated, 0}));
  EXPECT_EQ(models.change({"one more", kOld}, {deprecated, 0})->outcome, Outcome::ADMISSION_REJECT);
}

}  // namespace
}  // namespace orch::gateway
