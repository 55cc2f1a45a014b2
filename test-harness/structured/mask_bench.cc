// What masks cost on a real vocabulary: `mask_bench MODEL.gguf`. Time of this thread's own CPU; medians of repeated
// runs.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "common/grammar/limits.h"
#include "worker/grammar/constraint_mask.h"
#include "worker/text/gguf_vocabulary.h"

namespace {

using namespace orch::worker;
using orch::grammar::ConstraintKind;

double cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

template <typename Work>
double median_us(int runs, const Work& work) {
  std::vector<double> out;
  for (int i = 0; i < runs; ++i) {
    const double begin = cpu_us();
    work();
    out.push_back(cpu_us() - begin);
  }
  std::nth_element(out.begin(), out.begin() + runs / 2, out.end());
  return out[static_cast<std::size_t>(runs) / 2];
}

struct Case {
  const char* name;
  ConstraintKind kind;
  std::string text;
  std::string before;
};

void measure(const Case& each, const std::shared_ptr<const VocabularyTrie>& trie) {
  const orch::grammar::Constraint constraint{each.kind, each.text};
  const double compile = median_us(5, [&] { static_cast<void>(TokenConstraint::create(constraint, trie)); });
  auto made = TokenConstraint::create(constraint, trie);
  if (!made.ok()) {
    std::printf("%s: %s %s\n", each.name, made.error().where.c_str(), made.error().message.c_str());
    return;
  }
  // Cold: nothing known. Near: the states are known, the mask is not. Warm: the mask is kept.
  const double cold = median_us(5, [&] {
    auto fresh = TokenConstraint::create(constraint, trie).value();
    static_cast<void>(fresh->bits(fresh->state_of(each.before)));
  });
  auto& shared = *made.value();
  const auto state = shared.state_of(each.before);
  const auto bits = shared.bits(state);
  const double near = median_us(9, [&] { static_cast<void>(shared.bits_near_end(state, orch::grammar::kNever)); });
  constexpr int kWarmRuns = 10000;
  const double warm = median_us(5, [&] {
    for (int i = 0; i < kWarmRuns; ++i) static_cast<void>(shared.bits(state));
  });
  std::printf("%-34s compile %8.0f us, mask cold %8.0f us, known states %7.0f us, kept %6.1f ns, %u tokens%s\n",
              each.name, compile, std::max(0.0, cold - compile), near, warm * 1000 / kWarmRuns, bits->count,
              bits->is_cut ? ", cut" : "");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: mask_bench MODEL.gguf\n");
    return 64;
  }
  auto file = GgufFile::open(argv[1]);
  if (!file.ok()) return 65;
  auto data = read_vocabulary(*file.value());
  if (!data.ok()) return 65;
  auto tokenizer = Tokenizer::create(std::move(data.value()));
  if (!tokenizer.ok()) return 65;
  std::shared_ptr<const VocabularyTrie> trie;
  const double build = median_us(3, [&] { trie = std::make_shared<const VocabularyTrie>(tokenizer.value()); });
  std::printf("vocabulary %u tokens, %zu nodes, built in %.1f ms, %zu bytes have a token of their own\n",
              trie->vocabulary(), trie->size(), build / 1000, trie->single_bytes().count());
  const std::string person =
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},)"
      R"("email":{"type":"string","pattern":"^[a-z]+@[a-z]+\\.[a-z]{2,3}$"},)"
      R"("tags":{"type":"array","items":{"enum":["a","b","c"]}}},)"
      R"("required":["name","age","email","tags"],"additionalProperties":false})";
  const std::string bounded = R"({"type":"string","maxLength":1000})";
  for (const Case& each :
       {Case{"object, at its start", ConstraintKind::json_schema, person, ""},
        Case{"object, in a string", ConstraintKind::json_schema, person, R"({"name": "Ad)"},
        Case{"object, in a number", ConstraintKind::json_schema, person, R"({"name": "Ada", "age": 1)"},
        Case{"object, in a pattern", ConstraintKind::json_schema, person, R"({"name":"","age":1,"email":"a)"},
        Case{"string of at most 1000", ConstraintKind::json_schema, bounded, "\"abc"},
        Case{"any JSON object", ConstraintKind::json_object, "", R"({"a": [1, {"b": "x)"},
        Case{"regex .*", ConstraintKind::regex, "(.|\\n)*", "abc"}}) {
    measure(each, trie);
  }
}
