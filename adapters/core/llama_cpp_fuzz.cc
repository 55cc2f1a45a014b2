// Any bytes as an engine's answers, in any pieces: a conversation gives token events in order and exactly one terminal
// event, after which nothing follows (OC-ADAPT-5082).
#include "adapters/core/llama_cpp.h"
#include "adapters/core/llama_cpp_generation.h"
#include "common/testing/fuzz_target.h"

namespace orch::testing {

// Byte 0 chooses the prompt, 1 the first status, then two replies parted by a zero byte.
std::string make_seed(Prng& prng) {
  static constexpr const char* kFrames[] = {
      "data: {\"content\":\"a\",\"tokens\":[5],\"stop\":false}\n\n",
      "data: {\"content\":\"\xC3\xA9\",\"tokens\":[6,7],\"stop\":false}\n\n",
      ("data: {\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\",\"tokens_predicted\":3,\"tokens_evaluated\":4,"
       "\"timings\":{\"predicted_ms\":1.5},\"truncated\":false}\n\n"),
      "data: {\"error\":{\"code\":400,\"message\":\"exceeds context\",\"type\":\"exceed_context_size_error\"}}\n\n",
      ": ping\n\n",
      "error: {\"code\":500}\n\n",
      "data: [DONE]\n\n"};
  std::string out(1, static_cast<char>(prng.below(4)));
  out += prng.chance(7, 8) ? 'A' : 'B';
  out += prng.chance(1, 2) ? "{\"tokens\":[1,2,3]}" : "{\"prompt\":\"x\"}";
  out.push_back('\0');
  for (std::uint64_t i = prng.below(6); i > 0; --i) out += kFrames[prng.below(std::size(kFrames))];
  return out;
}

}  // namespace orch::testing

namespace {

using namespace orch;
using namespace orch::adapter;

EnginePrompt prompt_of(std::uint8_t kind) {
  EnginePrompt prompt;
  if (kind % 3 == 0) prompt.text = "hello";
  if (kind % 3 == 1) prompt.messages = {{"user", "hello"}};
  if (kind % 3 == 2) prompt.token_ids = {1, 2};
  return prompt;
}

// Ends each exchange as a bridge does, until the terminal event or the replies are used up.
void converse(Conversation& conversation, int first_status, std::string_view replies, Prng& prng) {
  std::vector<Event> events;
  for (int exchange = 0; exchange < 4; ++exchange) {
    const HttpRequest request = conversation.next();
    ORCH_CHECK(!request.path.empty());
    const std::size_t cut = replies.find('\0');
    const std::string_view reply = replies.substr(0, cut);
    replies = cut == std::string_view::npos ? std::string_view() : replies.substr(cut + 1);
    conversation.head(exchange == 0 ? first_status : 200);
    testing::feed_in_pieces(reply, 9, prng, [&](std::string_view piece) { conversation.body(piece, events); });
    conversation.end(events);
    if (!events.empty() && is_terminal(events.back())) break;
  }
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    ORCH_CHECK(is_terminal(events[i]) == (i + 1 == events.size()));
    const auto* tokens = std::get_if<Tokens>(&events[i]);
    if (tokens == nullptr) continue;
    ORCH_CHECK(tokens->index == next);
    ORCH_CHECK(tokens->ids.empty() || tokens->ids.size() == tokens->count);
    next += tokens->count;
  }
  ORCH_CHECK(!events.empty());  // four exchanges always end it
  const std::size_t before = events.size();
  conversation.body("data: {\"content\":\"late\"}\n\n", events);
  ORCH_CHECK(events.size() == before);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view replies = orch::testing::text_of(data + 2, size - 2);
  const int status = data[1] == 'A' ? 200 : 100 + data[1] * 2;
  Prng prng(size);

  GenerationRequest request;
  request.prompt = prompt_of(data[0]);
  request.max_tokens = 4;
  LlamaCppGeneration generation(request);
  converse(generation, status, replies, prng);
  LlamaCppCount count(prompt_of(data[0]));
  converse(count, status, replies, prng);

  const LlamaCppDialect dialect;
  const HttpReply reply{status, std::string(replies)};
  static_cast<void>(dialect.read_probes({reply, reply, reply}));
  static_cast<void>(dialect.busy_slots(reply));
  return 0;
}
