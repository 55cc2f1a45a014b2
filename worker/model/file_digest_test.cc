#include "worker/model/file_digest.h"

#include <gtest/gtest.h>

#include <vector>

namespace orch::worker {
namespace {

TEST(FileDigest, equals_the_published_vector) {
  const std::string text = "abc";  // FIPS 180-2, appendix B.1
  const auto digest = sha256_of(std::as_bytes(std::span(text)), {});
  ASSERT_TRUE(digest.ok());
  EXPECT_EQ(*digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(FileDigest, reports_progress_to_the_end) {
  const std::vector<std::byte> bytes((std::size_t{8} << 20) + 1);
  std::vector<float> seen;
  ASSERT_TRUE(sha256_of(bytes, [&seen](float p) { seen.push_back(p); }).ok());
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen.back(), 1.0F);
}

}  // namespace
}  // namespace orch::worker
