#include "worker/text/byte_decoder.h"

#include <gtest/gtest.h>

#include "common/base/prng.h"
#include "worker/text/utf8.h"

namespace orch::worker {
namespace {

TEST(ByteDecoder, never_splits_a_code_point) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\xA7z";
  for (std::size_t chunk = 1; chunk <= 4; ++chunk) {
    ByteDecoder decoder;
    std::string joined;
    for (std::size_t i = 0; i < text.size(); i += chunk) {
      const std::string part = decoder.push(std::string_view(text).substr(i, chunk));
      EXPECT_TRUE(is_valid_utf8(part));
      joined += part;
    }
    EXPECT_EQ(joined, text);
    EXPECT_EQ(decoder.finish(), "");
  }
}

TEST(ByteDecoder, any_bytes_become_valid_text_whatever_the_cuts) {
  Prng prng(3);
  for (int i = 0; i < 5000; ++i) {
    std::string bytes;
    for (std::uint64_t left = prng.below(16); left > 0; --left) {
      bytes.push_back(static_cast<char>(prng.chance(1, 2) ? 0x80 + prng.below(128) : prng.below(128)));
    }
    ByteDecoder whole;
    std::string expected = whole.push(bytes);
    expected += whole.finish();
    ASSERT_TRUE(is_valid_utf8(expected));
    ByteDecoder single;
    std::string joined;
    for (const char byte : bytes) {
      const std::string part = single.push(std::string_view(&byte, 1));
      ASSERT_TRUE(is_valid_utf8(part));
      joined += part;
    }
    joined += single.finish();
    ASSERT_EQ(joined, expected);
  }
}

TEST(ByteDecoder, a_cut_code_point_at_the_end_becomes_one_replacement) {
  ByteDecoder decoder;
  EXPECT_EQ(decoder.push("x\xF0\x9F\x8C"), "x");
  EXPECT_EQ(decoder.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.finish(), "");
}

}  // namespace
}  // namespace orch::worker
