// Which recorded program a step takes, and that each such program is recorded.
#include <gtest/gtest.h>

#include <set>

#include "worker/vulkan/program_form.h"

namespace orch::worker::vulkan {
namespace {

TEST(ProgramFormTest, OC_DEVICE_1006_the_form_follows_from_rows_and_splits) {
  const OwnInputLimits none{};
  EXPECT_EQ(form_for(1, 1, none), (ProgramForm{1, OwnInputs::none}));
  EXPECT_EQ(form_for(2, 1, none), (ProgramForm{4, OwnInputs::none}));
  const OwnInputLimits one{.rows = 1, .splits = 4};
  EXPECT_EQ(form_for(1, 4, one), (ProgramForm{1, OwnInputs::norms_and_joins}));
  EXPECT_EQ(form_for(1, 5, one), (ProgramForm{1, OwnInputs::norms}));
  EXPECT_EQ(form_for(2, 1, one), (ProgramForm{4, OwnInputs::none}));
  EXPECT_EQ(form_for(256, 1, one), (ProgramForm{4, OwnInputs::none}));
}

TEST(ProgramFormTest, OC_DEVICE_1006_a_program_is_recorded_for_every_step_and_no_other) {
  for (const OwnInputLimits limits : {OwnInputLimits{0, 0}, OwnInputLimits{0, 4}, OwnInputLimits{1, 0},
                                      OwnInputLimits{1, 4}, OwnInputLimits{3, 2}, OwnInputLimits{4, 100}}) {
    for (const std::uint32_t splits_max : {1U, 4U, 7U}) {
      std::set<ProgramForm> wanted;
      for (std::uint32_t rows = 1; rows <= 256; ++rows) {
        for (std::uint32_t splits = 1; splits <= splits_max; ++splits) wanted.insert(form_for(rows, splits, limits));
      }
      const std::vector<ProgramForm> recorded = every_form(limits, splits_max);
      EXPECT_EQ(std::set<ProgramForm>(recorded.begin(), recorded.end()), wanted)
          << "rows " << limits.rows << ", splits " << limits.splits << " of " << splits_max;
      EXPECT_EQ(recorded.size(), wanted.size());
    }
  }
}

TEST(ProgramFormTest, OC_DEVICE_1006_forms_are_compared_at_several_positions_and_behind_every_number_of_splits) {
  const OwnInputLimits hardware{.rows = 1, .splits = 4};
  const std::vector<StepRows> near{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 1}};
  const auto behind_near = [&](std::vector<StepRows> more) {
    more.insert(more.begin(), near.begin(), near.end());
    return more;
  };
  const ProgramForm joins{1, OwnInputs::norms_and_joins};
  EXPECT_EQ(compared_steps(joins, hardware, 4096), behind_near({{263, 1}, {519, 1}, {775, 1}}));
  EXPECT_EQ(compared_steps(joins, hardware, 519), behind_near({{263, 1}}));
  EXPECT_EQ(compared_steps({1, OwnInputs::norms}, hardware, 4096), behind_near({{1031, 1}}));
  EXPECT_EQ(compared_steps({1, OwnInputs::norms}, hardware, 1024), near);
  EXPECT_EQ(compared_steps(joins, hardware, 1), (std::vector<StepRows>{{0, 1}}));
  EXPECT_EQ(compared_steps({4, OwnInputs::norms_and_joins}, {.rows = 4, .splits = 100}, 265),
            (std::vector<StepRows>{{0, 4}, {4, 4}, {8, 1}, {263, 2}}));
}

}  // namespace
}  // namespace orch::worker::vulkan
