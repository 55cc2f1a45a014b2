// Any bytes, in any pieces: the events are those of the whole, and every bound holds (OC-ADAPT-5082).
#include "common/base/sse_parser.h"

#include "common/testing/fuzz_target.h"

namespace orch::testing {

std::string make_seed(Prng& prng) {
  static constexpr const char* kParts[] = {"data: x",  "data:", "data", "event: token", "id: 7", ": comment",
                                           "retry: 5", "\n",    "\r\n", "\r",           "\n\n",  "\xEF\xBB\xBF"};
  std::string out;
  for (std::uint64_t i = prng.below(24); i > 0; --i) out += kParts[prng.below(std::size(kParts))];
  return out;
}

}  // namespace orch::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orch;
  const std::string_view bytes = testing::text_of(data, size);
  const SseParser::Limits limits{.line_bytes = 48, .event_bytes = 96};  // small, so that inputs reach them

  SseParser whole(limits);
  std::vector<SseParser::Event> expected;
  const auto state = whole.feed(bytes, expected);
  for (const auto& event : expected) {
    ORCH_CHECK(event.data.size() <= limits.event_bytes);
    ORCH_CHECK(event.name.size() <= limits.line_bytes && !event.name.empty());
    ORCH_CHECK(event.data.find('\r') == std::string::npos);
  }

  Prng prng(size);
  SseParser pieces(limits);
  std::vector<SseParser::Event> seen;
  auto last = SseParser::Fed::ok;
  testing::feed_in_pieces(bytes, 7, prng, [&](std::string_view piece) { last = pieces.feed(piece, seen); });
  ORCH_CHECK(last == state && seen.size() == expected.size());
  for (std::size_t i = 0; i < seen.size(); ++i) {
    ORCH_CHECK(seen[i].name == expected[i].name && seen[i].data == expected[i].data && seen[i].id == expected[i].id);
  }
  const std::size_t before = seen.size();
  if (state != SseParser::Fed::ok) ORCH_CHECK(pieces.feed("data: late\n\n", seen) == state && seen.size() == before);
  return 0;
}
