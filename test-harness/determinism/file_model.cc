#include "determinism/file_model.h"

#include <array>
#include <utility>

#include "worker/text/gguf_vocabulary.h"

namespace orch::determinism {

Result<std::unique_ptr<FileModel>, std::string> FileModel::open(const std::string& path) {
  auto file = worker::GgufFile::open(path);
  if (!file.ok()) return Err{file.error().field + ": " + file.error().message};
  auto vocabulary = worker::read_vocabulary(**file);
  if (!vocabulary.ok()) return Err{vocabulary.error().field + ": " + vocabulary.error().message};
  auto tokenizer = worker::Tokenizer::create(std::move(vocabulary).value());
  if (!tokenizer.ok()) return Err{tokenizer.error()};
  return std::unique_ptr<FileModel>(new FileModel(std::move(file).value(), std::move(tokenizer).value()));
}

Result<worker::Model, std::string> FileModel::load(std::uint32_t threads) const {
  auto model = worker::load_model(*file_, {}, threads);
  if (!model.ok()) return Err{model.error().field + ": " + model.error().message};
  return std::move(model).value();
}

std::vector<std::uint32_t> FileModel::words(Prng& prng, std::uint32_t count) const {
  static constexpr std::array kWords = {" the",  " sea",   " of",     " a",    " light",   " and",  " stone",
                                        " was",  " seen",  " in",     " from", " harbour", " when", " morning",
                                        ", but", ". Then", " window", " old",  " twelve",  " names"};
  std::string text = "Once";
  std::vector<std::uint32_t> out;
  while (out.size() < count) {
    text += kWords[prng.below(kWords.size())];
    out = tokenizer_.encode(text, false);
  }
  out.resize(count);
  return out;
}

}  // namespace orch::determinism
