#include "common/base/sse_parser.h"

#include <gtest/gtest.h>

#include "common/base/prng.h"

namespace orch {
namespace {

using Fed = SseParser::Fed;

std::vector<SseParser::Event> parse(std::string_view bytes, std::size_t piece) {
  SseParser parser({});
  std::vector<SseParser::Event> out;
  for (std::size_t at = 0; at < bytes.size(); at += piece)
    EXPECT_EQ(parser.feed(bytes.substr(at, piece), out), Fed::ok);
  return out;
}

TEST(SseParser, A1_gives_the_same_events_however_the_bytes_are_split) {
  const std::string text =
      "\xEF\xBB\xBF: hello\r\n\r\ndata: {\"t\":\"\xF0\x9F\xA6\x99\"}\r\n\r\nevent: token\rdata:a\rdata: b\r\rid: "
      "7\ndata\n\n"
      ": ping\n\nunknown: x\nretry: 5\n\ndata:  two spaces\n\n";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    const auto events = parse(text, piece);
    ASSERT_EQ(events.size(), 4u) << piece;
    EXPECT_EQ(events[0].name, "message");
    EXPECT_EQ(events[0].data, "{\"t\":\"\xF0\x9F\xA6\x99\"}");
    EXPECT_EQ(events[1].name, "token");
    EXPECT_EQ(events[1].data, "a\nb");
    EXPECT_EQ(events[2].data, "");
    EXPECT_EQ(events[2].id, "7");
    EXPECT_EQ(events[3].data, " two spaces");
    EXPECT_EQ(events[3].name, "message");
  }
}

TEST(SseParser, A1_the_two_bytes_of_a_CRLF_end_one_line) {
  const std::string text = "event: token\r\ndata: a\r\ndata: b\r\n\r\n";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    const auto events = parse(text, piece);
    ASSERT_EQ(events.size(), 1u) << piece;
    EXPECT_EQ(events[0].name, "token");
    EXPECT_EQ(events[0].data, "a\nb");
  }
}

TEST(SseParser, A3_an_event_cut_off_by_the_end_is_not_given) {
  EXPECT_TRUE(parse("data: half", 3).empty());
  EXPECT_TRUE(parse("data: whole line\n", 3).empty());
}

TEST(SseParser, A14_a_line_over_the_limit_is_an_error_that_stays) {
  SseParser parser({.line_bytes = 8, .event_bytes = 100});
  std::vector<SseParser::Event> out;
  EXPECT_EQ(parser.feed("data:123\n\n", out), Fed::ok);  // exactly 8 bytes
  EXPECT_EQ(out.size(), 1u);
  EXPECT_EQ(parser.feed("data:1234", out), Fed::line_too_long);
  EXPECT_EQ(parser.feed("\n\ndata:1\n\n", out), Fed::line_too_long);
  EXPECT_EQ(out.size(), 1u);
}

TEST(SseParser, A14_an_event_over_the_limit_is_an_error_that_stays) {
  SseParser parser({.line_bytes = 100, .event_bytes = 10});
  std::vector<SseParser::Event> out;
  EXPECT_EQ(parser.feed("data:1234\ndata:1234\ndata:1\n\n", out), Fed::event_too_large);
  EXPECT_TRUE(out.empty());
}

TEST(SseParser, survives_arbitrary_bytes_and_agrees_with_itself_on_any_split) {
  Prng random(11);
  const std::string alphabet = "data: \r\n:eventid\0x";
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 80; ++i) text.push_back(alphabet[random.below(alphabet.size())]);
    const auto whole = parse(text, text.size());
    const auto split = parse(text, 1 + random.below(7));
    ASSERT_EQ(whole.size(), split.size()) << text;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(whole[i].data, split[i].data);
      EXPECT_EQ(whole[i].name, split[i].name);
    }
  }
}

}  // namespace
}  // namespace orch
