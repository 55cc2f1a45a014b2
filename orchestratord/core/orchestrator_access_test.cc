// Whose a task is: to strangers it does not exist (OC-TENANT-1006).
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

struct Shared {
  Shared() {
    bench.ready(1);
    JobSpec spec = spec_of(1);
    spec.tenant = "owner";
    bench.submit(spec);
  }
  std::string open(std::uint64_t reader, std::optional<std::string> tenant) {
    return shown(bench.step(OpenStream{ReaderId{reader}, job_id(1), std::nullopt, std::move(tenant)}),
                 ReaderId{reader});
  }
  bool cancel(std::uint64_t job, std::optional<std::string> tenant) {
    const auto replies = all_of<CancelReply>(bench.step(CancelJob{RequestId{50}, job_id(job), std::move(tenant)}));
    return replies.size() == 1 && replies[0].found;
  }
  Bench bench;
};

TEST(Access, OC_TENANT_1006_a_stream_is_its_tenant_s_and_the_operator_s) {
  Shared shared;
  EXPECT_EQ(shared.open(1, "stranger"), "refused NOT_FOUND");
  EXPECT_EQ(shared.open(2, "other"), "refused NOT_FOUND");
  EXPECT_EQ(shared.open(3, "owner"), "opened, 1 started");
  EXPECT_EQ(shared.open(4, std::nullopt), "opened, 1 started");
}

TEST(Access, OC_TENANT_1006_a_stranger_learns_what_a_guess_would_tell) {
  Shared shared;
  const auto refused = [&](std::uint64_t job) {
    const auto refusals =
        all_of<StreamRefused>(shared.bench.step(OpenStream{ReaderId{job}, job_id(job), std::nullopt, "stranger"}));
    return refusals.size() == 1 ? refusals[0].failure.outcome : Outcome::INTERNAL;
  };
  EXPECT_EQ(refused(1), refused(2));  // the second does not exist
  EXPECT_EQ(refused(1), Outcome::NOT_FOUND);
}

TEST(Access, OC_TENANT_1006_a_cancel_by_a_stranger_changes_nothing) {
  Shared shared;
  EXPECT_FALSE(shared.cancel(1, "stranger"));
  EXPECT_FALSE(shared.cancel(2, std::nullopt));
  EXPECT_TRUE(shared.bench.ends.empty());
  EXPECT_TRUE(shared.cancel(1, "owner"));
  ASSERT_EQ(shared.bench.ends.size(), 1u);
  EXPECT_TRUE(shared.cancel(1, std::nullopt));  // repeated
}

TEST(Access, OC_TENANT_1006_decisions_are_kept_for_their_tenant) {
  Shared shared;
  const Orchestrator& core = shared.bench.core;
  EXPECT_TRUE(core.may_see_decisions(job_id(1), "owner"));
  EXPECT_TRUE(core.may_see_decisions(job_id(1), std::nullopt));
  EXPECT_FALSE(core.may_see_decisions(job_id(1), "stranger"));
  EXPECT_FALSE(core.may_see_decisions(job_id(2), std::nullopt));
  // A stranger's refused request of the same id does not take the record's place.
  JobSpec same = spec_of(1);
  same.tenant = "stranger";
  shared.bench.submit(same);
  shared.bench.step(DrainBegin{Duration::seconds(1)});
  shared.bench.submit(same);
  EXPECT_TRUE(core.may_see_decisions(job_id(1), "owner"));
  EXPECT_FALSE(core.may_see_decisions(job_id(1), "stranger"));
}

TEST(Access, OC_TENANT_1002_names_beyond_the_bound_are_other) {
  Tenants tenants{TenantsConfig{}};
  EXPECT_EQ(tenants.known_as("new"), "new");
  for (std::size_t i = 0; i < kTenantsMax; ++i) tenants.admit("t" + std::to_string(i));
  EXPECT_EQ(tenants.known_as("new"), "other");
  EXPECT_EQ(tenants.known_as("t5"), "t5");
}

}  // namespace
}  // namespace orch::gateway
