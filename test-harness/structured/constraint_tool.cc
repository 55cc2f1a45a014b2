// Token masks for a judge outside: `constraint_tool [MODEL.gguf]`, without a model over a small made-up vocabulary. One
// JSON object a line on standard input, one on standard output:
//   {"kind", "text", "match": [hex, ...]}                       -> {"match": [bool, ...]}
//   {"kind", "text", "walks", "seed", "tokens", "mutant": name} -> {"walks": [{"hex", "complete", "replayed"}, ...]}
// or {"refused": {"where", "message"}}. Texts travel as hexadecimal bytes, since a wrong mask may write anything.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/prng.h"
#include "worker/grammar/constraint_mask.h"
#include "worker/grammar/vocabulary_fixture.h"
#include "worker/text/gguf_vocabulary.h"

namespace {

using namespace orch::worker;
using nlohmann::json;

constexpr std::uint32_t kTokensAtLeast = 4;

std::string to_hex(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

std::string from_hex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

std::vector<TokenId> ids_of(std::span<const std::uint32_t> words) {
  std::vector<TokenId> out;
  for (std::uint32_t id = 0; id < words.size() * 32; ++id) {
    if ((words[id / 32] >> (id % 32) & 1) != 0) out.push_back(id);
  }
  return out;
}

bool is_end(const VocabularyTrie& trie, TokenId id) {
  return std::find(trie.end_tokens().begin(), trie.end_tokens().end(), id) != trie.end_tokens().end();
}

// Wrong masks, for which the judge has to turn red.
std::vector<TokenId> mutated(const std::string& mutant, const std::vector<TokenId>& right, TokenConstraint& constraint,
                             const std::string& text, const std::vector<TokenId>& before) {
  const VocabularyTrie& trie = constraint.vocabulary();
  if (mutant == "end_anywhere") {
    auto out = right;
    for (std::size_t i = 0; i <= right.size() / 16; ++i) out.push_back(trie.end_tokens().front());
    return out;
  }
  if (mutant == "stale") return before.empty() ? right : before;
  if (mutant == "first_byte") {  // a token is taken for its first byte
    std::vector<TokenId> out;
    const auto state = constraint.state_of(text);
    for (TokenId id = 0; id < trie.vocabulary(); ++id) {
      const std::string first = trie.bytes_of(id).substr(0, 1);
      if (!first.empty() && constraint.state_of(text + first) != orch::grammar::Automaton::kDead) out.push_back(id);
    }
    if (constraint.accepts(state)) out.push_back(trie.end_tokens().front());
    return out;
  }
  return right;
}

json walk(const std::shared_ptr<TokenConstraint>& constraint, const orch::grammar::Constraint& text_of_constraint,
          const std::shared_ptr<const VocabularyTrie>& trie, orch::Prng& prng, std::uint32_t tokens_max,
          const std::string& mutant) {
  ConstraintMask mask(constraint, tokens_max);
  std::vector<TokenId> tokens;
  std::vector<TokenId> before;
  std::vector<TokenId> half;
  std::string text;
  while (tokens.size() < tokens_max) {
    const auto right = ids_of(mask.allowed());
    const auto choices = mutated(mutant, right, *constraint, text, before);
    if (tokens.size() == tokens_max / 2) half = right;
    before = right;
    if (choices.empty()) break;
    const TokenId id = choices[prng.below(choices.size())];
    if (is_end(*trie, id)) break;
    text += trie->bytes_of(id);
    tokens.push_back(id);
    if (!mask.accept(id)) break;
  }
  // The same tokens by a newly compiled constraint: the same mask half-way.
  auto again = TokenConstraint::create(text_of_constraint, trie);
  ConstraintMask replay(again.value(), tokens_max);
  bool replayed = true;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i == tokens_max / 2) replayed = ids_of(replay.allowed()) == half;
    if (!replay.accept(tokens[i])) break;
  }
  return {{"hex", to_hex(text)}, {"complete", mask.is_complete()}, {"replayed", replayed}};
}

json answer(const json& request, const std::shared_ptr<const VocabularyTrie>& trie) {
  static const std::vector<std::pair<std::string, orch::grammar::ConstraintKind>> kKinds{
      {"json_object", orch::grammar::ConstraintKind::json_object},
      {"json_schema", orch::grammar::ConstraintKind::json_schema},
      {"regex", orch::grammar::ConstraintKind::regex},
      {"gbnf", orch::grammar::ConstraintKind::gbnf}};
  orch::grammar::Constraint wanted;
  for (const auto& [name, kind] : kKinds) {
    if (name == request["kind"].get<std::string>()) wanted.kind = kind;
  }
  wanted.text = request["text"].get<std::string>();
  const auto made = TokenConstraint::create(wanted, trie);
  if (!made.ok()) return {{"refused", {{"where", made.error().where}, {"message", made.error().message}}}};
  const auto& constraint = made.value();
  json out;
  for (const json& hex : request.value("match", json::array())) {
    out["match"].push_back(constraint->accepts(constraint->state_of(from_hex(hex.get<std::string>()))));
  }
  orch::Prng prng(request.value("seed", std::uint64_t{1}));
  const std::uint32_t shortest = constraint->bytes_to_end(constraint->state_of(""));
  for (int i = 0; i < request.value("walks", 0); ++i) {
    const auto more = prng.below(request.value("tokens", std::uint64_t{100}));
    const std::uint32_t tokens_max = std::max(shortest, kTokensAtLeast) + static_cast<std::uint32_t>(more);
    out["walks"].push_back(walk(constraint, wanted, trie, prng, tokens_max, request.value("mutant", std::string())));
  }
  return out;
}

std::shared_ptr<const VocabularyTrie> trie_of_model(const char* path) {
  auto file = GgufFile::open(path);
  if (!file.ok()) return nullptr;
  auto data = read_vocabulary(*file.value());
  if (!data.ok()) return nullptr;
  auto tokenizer = Tokenizer::create(std::move(data.value()));
  return tokenizer.ok() ? std::make_shared<const VocabularyTrie>(tokenizer.value()) : nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const auto trie = argc > 1 ? trie_of_model(argv[1]) : testing::trie_of(testing::pieces_of_documents(1, 1500));
  if (trie == nullptr) {
    std::fprintf(stderr, "constraint_tool: no vocabulary in %s\n", argv[1]);
    return 65;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto request = json::parse(line, nullptr, false);
    if (!request.is_object() || !request.contains("kind") || !request.contains("text")) return 65;
    std::cout << answer(request, trie).dump() << '\n' << std::flush;
  }
  return 0;
}
