#include "worker/text/stop_strings.h"

#include <gtest/gtest.h>

#include "common/base/prng.h"

namespace orch::worker {
namespace {

TEST(StopStrings, finds_a_stop_across_token_borders) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("abc E").text, "abc ");
  EXPECT_EQ(stops.push("N").text, "");
  const auto last = stops.push("D tail");
  EXPECT_TRUE(last.stopped);
  EXPECT_EQ(last.text, "");
}

TEST(StopStrings, releases_what_turned_out_harmless) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("xEN").text, "x");
  EXPECT_EQ(stops.push("Q").text, "ENQ");
  EXPECT_EQ(stops.push("EE").text, "E");
  EXPECT_EQ(stops.finish(), "E");
}

TEST(StopStrings, the_first_of_several_wins) {
  StopStrings stops({"two", "one"});
  const auto out = stops.push("x one two");
  EXPECT_TRUE(out.stopped);
  EXPECT_EQ(out.text, "x ");
}

TEST(StopStrings, nothing_follows_a_stop) {
  StopStrings stops({"."});
  EXPECT_EQ(stops.push("a.b").text, "a");
  EXPECT_EQ(stops.push("c").text, "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, result_does_not_depend_on_the_cuts) {
  Prng prng(5);
  const auto run = [](const std::vector<std::string>& stops, const std::string& text, std::size_t chunk) {
    StopStrings matcher(stops);
    std::string out;
    for (std::size_t i = 0; i < text.size(); i += chunk)
      out += matcher.push(std::string_view(text).substr(i, chunk)).text;
    return out + matcher.finish();
  };
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (std::uint64_t left = prng.below(30); left > 0; --left) text.push_back(static_cast<char>('a' + prng.below(2)));
    std::string stop;
    for (std::uint64_t left = 1 + prng.below(5); left > 0; --left)
      stop.push_back(static_cast<char>('a' + prng.below(2)));
    const std::string expected = text.substr(0, text.find(stop));
    for (const std::size_t chunk : {1u, 2u, 3u, 7u})
      ASSERT_EQ(run({stop, ""}, text, chunk), expected) << text << " / " << stop;
  }
}

}  // namespace
}  // namespace orch::worker
