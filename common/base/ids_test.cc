#include "common/base/ids.h"

#include <gtest/gtest.h>

namespace orch {
namespace {

TEST(Uuid, round_trips_its_text_form) {
  const auto id = Uuid::parse("00112233-4455-6677-8899-aabbccddeeff");
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(id->hi, 0x0011223344556677u);
  EXPECT_EQ(id->lo, 0x8899aabbccddeeffu);
  EXPECT_EQ(id->to_string(), "00112233-4455-6677-8899-aabbccddeeff");
}

TEST(Uuid, refuses_everything_but_the_canonical_form) {
  for (const char* text : {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefff",
                           "0011223344556677-8899-aabbccddeeff-0", "g0112233-4455-6677-8899-aabbccddeeff",
                           "00112233_4455-6677-8899-aabbccddeeff"}) {
    EXPECT_FALSE(Uuid::parse(text).has_value()) << text;
  }
}

TEST(BootCounter, a_higher_boot_is_greater_whatever_the_counter) { EXPECT_LT((LeaseId{1, 900}), (LeaseId{2, 0})); }

}  // namespace
}  // namespace orch
