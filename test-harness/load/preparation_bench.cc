// preparation_bench MODEL.gguf [CONTEXT]
// How long it takes to prepare the slowest of what a worker takes, in both lanes (OC-WORKER-1007): texts as long as
// the lane or the context lets them be, conversations of as many messages, a score of as many items, constraints near
// their limits. CPU time of this thread, the median of three. A last line for each lane:
//   swift SLOWEST_MS NAME
//   slow SLOWEST_MS NAME
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "worker/core/score_job.h"
#include "worker/grammar/large_constraints_fixture.h"
#include "worker/grammar/token_constraint.h"
#include "worker/shell/model_texts.h"
#include "worker/shell/preparation_lane.h"
#include "worker/text/gguf_vocabulary.h"

namespace orch::bench {
namespace {

using namespace orch::worker;

constexpr std::size_t kMessagesMax = 1024;       // of a conversation on the wire
constexpr std::size_t kBodyBytesMax = 1U << 20;  // http.body_bytes_max as it comes

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

template <typename Work>
double median_ms(const Work& work) {
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) {
    const double begin = cpu_ms();
    work();
    times.push_back(cpu_ms() - begin);
  }
  std::nth_element(times.begin(), times.begin() + 1, times.end());
  return times[1];
}

// The slowest of each lane.
class Table {
 public:
  void add(PreparationLane lane, const std::string& name, double ms) {
    std::printf("  %-5s %9.2f ms  %s\n", lane == PreparationLane::swift ? "swift" : "slow", ms, name.c_str());
    Row& slowest = slowest_[static_cast<std::size_t>(lane)];
    if (ms >= slowest.ms) slowest = {ms, name};
  }
  void print() const {
    std::printf("swift %.2f %s\n", slowest_[0].ms, slowest_[0].name.c_str());
    std::printf("slow %.2f %s\n", slowest_[1].ms, slowest_[1].name.c_str());
  }

 private:
  struct Row {
    double ms = 0;
    std::string name;
  };
  Row slowest_[kPreparationLanes];
};

// Texts that a tokenizer may find hard.
struct Writing {
  const char* name;
  std::string (*of)(std::size_t bytes);
};

std::string repeated(const std::string& text, std::size_t bytes) {
  std::string out;
  while (out.size() + text.size() <= bytes) out += text;
  return out;
}

std::string any_letters(std::size_t bytes) {
  Prng prng(1);
  std::string out;
  while (out.size() < bytes) out += static_cast<char>('a' + prng.below(26));
  return out;
}

std::string any_code_points(std::size_t bytes) {
  Prng prng(2);
  std::string out;
  while (out.size() + 3 <= bytes) {
    const std::uint64_t c = 0x4E00 + prng.below(0x4000);
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 63));
    out += static_cast<char>(0x80 | (c & 63));
  }
  return out;
}

constexpr Writing kWritings[] = {
    {"one letter", [](std::size_t bytes) { return repeated("a", bytes); }},
    {"one word of any letters", any_letters},
    {"prose", [](std::size_t bytes) { return repeated("the quick brown fox jumps, ", bytes); }},
    {"digits", [](std::size_t bytes) { return repeated("7", bytes); }},
    {"blanks", [](std::size_t bytes) { return repeated(" ", bytes); }},
    {"beginnings of control tokens", [](std::size_t bytes) { return repeated("<|im_", bytes); }},
    {"any ideographs", any_code_points},
};

EnginePrompt conversation(std::size_t bytes, std::size_t messages, const Writing& writing) {
  EnginePrompt out;
  const std::string content = writing.of(bytes / messages > 9 ? bytes / messages - 9 : 0);
  for (std::size_t i = 0; i < messages; ++i) out.messages.emplace_back(i % 2 == 0 ? "user" : "assistant", content);
  return out;
}

void measure_prompts(const ModelTexts& texts, std::uint32_t context, Table& table) {
  // As many bytes as could be fewer tokens than the context, where that is known.
  std::size_t longest = context;
  while (longest < kBodyBytesMax && texts.tokenizer->tokens_at_least(longest + 1) < context) ++longest;
  for (const Writing& writing : kWritings) {
    for (const std::size_t bytes : {std::min(kSwiftBytesMax, longest), longest}) {
      EnginePrompt prompt;
      prompt.text = writing.of(bytes);
      table.add(lane_of(prompt), "text of " + std::to_string(bytes) + " bytes: " + writing.name,
                median_ms([&] { static_cast<void>(texts.prompt_ids(prompt, context)); }));
    }
    if (texts.chat_template == nullptr) continue;
    for (const std::size_t messages : {kSwiftMessagesMax, kMessagesMax}) {
      const std::size_t bytes = messages == kMessagesMax ? longest : std::min(kSwiftBytesMax, longest);
      const EnginePrompt prompt = conversation(bytes, messages, writing);
      table.add(lane_of(prompt), std::to_string(messages) + " messages: " + writing.name,
                median_ms([&] { static_cast<void>(texts.prompt_ids(prompt, context)); }));
    }
  }
}

void measure_scores(const ModelTexts& texts, std::uint32_t context, Table& table) {
  for (const std::size_t items : {kSwiftMessagesMax, kScoreItemsMax}) {
    ScoreRequest request;
    const std::size_t each =
        items == kScoreItemsMax ? std::min<std::size_t>(context - 1, kScoreTokensMax / items) : kSwiftBytesMax / items;
    request.query_text = any_letters(each / 2);
    request.item_texts.assign(items, any_letters(each / 2));
    request.labels = {0};
    const ScoreBounds bounds{context, [&](std::uint64_t bytes) { return texts.tokenizer->tokens_at_least(bytes); }};
    table.add(lane_of(request), "score of " + std::to_string(items) + " items", median_ms([&] {
                static_cast<void>(make_prompts(
                    request, bounds, [&](const std::string& text) { return texts.tokenizer->encode(text, false); }));
              }));
  }
}

void measure_constraints(const ModelTexts& texts, Table& table) {
  const auto trie = std::make_shared<const VocabularyTrie>(*texts.tokenizer);
  for (const grammar::Constraint& constraint : testing::large_constraints(0)) {
    std::string name = "constraint " + constraint.text.substr(0, 40);
    std::replace(name.begin(), name.end(), '\n', ' ');
    table.add(PreparationLane::slow, name,
              median_ms([&] { static_cast<void>(TokenConstraint::create(constraint, trie)); }));
  }
}

int run(const char* path, std::uint32_t context) {
  auto file = GgufFile::open(path);
  if (!file.ok()) return 65;
  auto data = read_vocabulary(*file.value());
  auto source = read_chat_template(*file.value());
  if (!data.ok() || !source.ok()) return 65;
  auto tokenizer = Tokenizer::create(std::move(data.value()));
  if (!tokenizer.ok()) return 65;
  ModelTexts texts{std::make_shared<const Tokenizer>(std::move(tokenizer.value())), nullptr};
  if (source.value()) {
    auto made = ChatTemplate::create(**source, {});
    if (!made.ok()) return 65;
    texts.chat_template = std::make_shared<const ChatTemplate>(std::move(made.value()));
  }
  Table table;
  measure_prompts(texts, context, table);
  measure_scores(texts, context, table);
  measure_constraints(texts, table);
  table.print();
  return 0;
}

}  // namespace
}  // namespace orch::bench

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: preparation_bench MODEL.gguf [CONTEXT]\n");
    return 64;
  }
  const long context = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 8192;
  if (context < 64 || context > (1L << 20)) {
    std::fprintf(stderr, "preparation_bench: CONTEXT is 64 to 1048576 tokens\n");
    return 64;
  }
  return orch::bench::run(argv[1], static_cast<std::uint32_t>(context));
}
