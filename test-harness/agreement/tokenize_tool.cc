// Token ids of a model's tokenizer for a judge outside: one JSON object a line on standard input, {"text": ...,
// "special": bool}, one JSON array of ids a line on standard output.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/text/gguf_vocabulary.h"
#include "worker/text/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenize_tool MODEL.gguf\n");
    return 64;
  }
  using namespace orch::worker;
  auto file = GgufFile::open(argv[1]);
  if (!file.ok()) {
    std::fprintf(stderr, "%s: %s\n", file.error().field.c_str(), file.error().message.c_str());
    return 65;
  }
  auto data = read_vocabulary(*file.value());
  if (!data.ok()) {
    std::fprintf(stderr, "%s: %s\n", data.error().field.c_str(), data.error().message.c_str());
    return 65;
  }
  auto tokenizer = Tokenizer::create(std::move(data.value()));
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.error().c_str());
    return 65;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto request = nlohmann::json::parse(line, nullptr, false);
    if (request.is_discarded() || !request.contains("text")) return 65;
    const nlohmann::json ids =
        tokenizer.value().encode(request["text"].get<std::string>(), request.value("special", false));
    std::cout << ids.dump() << '\n';
  }
  return 0;
}
