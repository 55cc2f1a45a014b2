// What the tokenizer.* keys of a model file become.
#include "worker/text/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include "worker/testing/gguf_writer.h"

namespace orch::worker {
namespace {

using testing::GgufWriter;

GgufWriter vocabulary() {
  GgufWriter writer;
  writer.add_string("tokenizer.ggml.model", "gpt2").add_string("tokenizer.ggml.pre", "smollm");
  writer.add_strings("tokenizer.ggml.tokens", {"<|end|>", "a", "b"});
  writer.add_u32("tokenizer.ggml.eos_token_id", 0);
  return writer;
}

VocabularyData read(const GgufWriter& writer) {
  const std::vector<std::byte> bytes = writer.finish();
  const auto file = GgufFile::parse(bytes);
  EXPECT_TRUE(file.ok());
  auto out = read_vocabulary(**file);
  EXPECT_TRUE(out.ok());
  return std::move(out).value();
}

TEST(GgufVocabulary, OC_ENGINE_1013_a_token_behind_each_text_where_the_file_wants_one) {
  EXPECT_FALSE(read(vocabulary()).add_eos);
  GgufWriter with = vocabulary();
  with.add_bool("tokenizer.ggml.add_eos_token", true);
  EXPECT_TRUE(read(with).add_eos);
  EXPECT_FALSE(read(with).add_bos);
  GgufWriter without = vocabulary();
  without.add_bool("tokenizer.ggml.add_eos_token", false);
  EXPECT_FALSE(read(without).add_eos);
}

}  // namespace
}  // namespace orch::worker
