// Hostile and well-formed GGUF files (issue 1: "GGUF parser safe against hostile files").
#include "worker/model/gguf_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "common/base/prng.h"
#include "common/testing/temp_folder.h"
#include "worker/model/weights.h"
#include "worker/testing/gguf_writer.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker {
namespace {

using testing::append_text;
using testing::append_u32;
using testing::append_u64;
using testing::GgufWriter;

std::vector<std::byte> header(std::uint32_t version, std::uint64_t tensors, std::uint64_t metadata) {
  std::vector<std::byte> out;
  append_u32(out, 0x4655'4747U);
  append_u32(out, version);
  append_u64(out, tensors);
  append_u64(out, metadata);
  return out;
}

ModelError refusal(const std::vector<std::byte>& bytes) {
  auto file = GgufFile::parse(bytes);
  EXPECT_FALSE(file.ok());
  return file.ok() ? ModelError{} : file.error();
}

TEST(Gguf, OC_ENGINE_1008_reads_every_value_kind) {
  const auto bytes = GgufWriter()
                         .add_u32("u", 7)
                         .add_f32("f", 0.5F)
                         .add_bool("b", true)
                         .add_string("s", "text")
                         .add_strings("ss", {"a", "", "ccc"})
                         .add_i32s("is", {-1, 2})
                         .add_f32s("fs", {1.5F})
                         .finish();
  auto parsed = GgufFile::parse(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const GgufFile& file = **parsed;
  EXPECT_EQ(file.unsigned_value("u").value(), std::optional<std::uint64_t>(7));
  EXPECT_EQ(file.float_value("f").value(), std::optional<double>(0.5));
  EXPECT_EQ(file.bool_value("b").value(), std::optional<bool>(true));
  EXPECT_EQ(file.string_value("s").value(), std::optional<std::string_view>("text"));
  EXPECT_EQ((*file.string_array("ss").value())[2], "ccc");
  EXPECT_EQ((*file.integer_array("is").value())[0], -1);
  EXPECT_EQ((*file.float_array("fs").value())[0], 1.5F);
  EXPECT_EQ(file.unsigned_value("absent").value(), std::nullopt);
  EXPECT_FALSE(file.unsigned_value("s").ok());
  EXPECT_EQ(file.unsigned_value("s").error().field, "s");
}

TEST(Gguf, OC_ENGINE_1008_refuses_wrong_magic_and_versions) {
  EXPECT_EQ(refusal({}).field, "magic");
  EXPECT_EQ(refusal(std::vector<std::byte>(64)).message, "not a GGUF file");
  EXPECT_EQ(refusal(header(1, 0, 0)).field, "version");
  EXPECT_EQ(refusal(header(4, 0, 0)).field, "version");
}

// Version 3 added big-endian files and nothing else; version 2 has the same bytes but for its number.
TEST(Gguf, OC_ENGINE_1008_version_2_loads_the_same_model_as_version_3) {
  const auto model_of = [](std::uint32_t version) {
    GgufWriter writer = testing::tiny_model_writer({});
    writer.version = version;
    const auto bytes = writer.finish();
    EXPECT_EQ(bytes[4], static_cast<std::byte>(version));
    auto file = GgufFile::parse(bytes);
    EXPECT_TRUE(file.ok()) << file.error().message;
    auto model = load_model(**file, {});
    EXPECT_TRUE(model.ok()) << model.error().message;
    return std::move(model).value();
  };
  const Model two = model_of(2);
  const Model three = model_of(3);
  EXPECT_EQ(two.config.layers, three.config.layers);
  ASSERT_EQ(two.weights.tensors.size(), three.weights.tensors.size());
  for (std::size_t i = 0; i < two.weights.tensors.size(); ++i) {
    const QTensor& a = two.weights.tensors[i];
    const QTensor& b = three.weights.tensors[i];
    EXPECT_EQ(a.name, b.name);
    ASSERT_EQ(a.quants.size(), b.quants.size()) << a.name;
    ASSERT_EQ(a.scales.size(), b.scales.size()) << a.name;
    EXPECT_EQ(std::memcmp(a.quants.data(), b.quants.data(), a.quants.size()), 0) << a.name;
    EXPECT_TRUE(a.scales.size() == 0 || std::memcmp(a.scales.data(), b.scales.data(), a.scales.size()) == 0) << a.name;
  }
}

TEST(Gguf, OC_ENGINE_1008_refuses_counts_that_the_bytes_cannot_hold) {
  EXPECT_EQ(refusal(header(3, ~std::uint64_t{0}, 0)).field, "tensor_count");
  EXPECT_EQ(refusal(header(3, 1, 0)).field, "tensor_count");
  EXPECT_EQ(refusal(header(3, 0, ~std::uint64_t{0})).field, "metadata_kv_count");
}

TEST(Gguf, OC_ENGINE_1008_refuses_string_lengths_past_limit_and_file) {
  auto bytes = header(3, 0, 1);
  append_u64(bytes, ~std::uint64_t{0});
  bytes.resize(bytes.size() + 64);
  EXPECT_NE(refusal(bytes).message.find("limit 65535"), std::string::npos);
  bytes = header(3, 0, 1);
  append_u64(bytes, 60'000);
  bytes.resize(bytes.size() + 64);
  EXPECT_NE(refusal(bytes).message.find("truncated"), std::string::npos);
}

TEST(Gguf, OC_ENGINE_1008_refuses_array_counts_and_nesting) {
  std::vector<std::byte> value;
  append_u32(value, 10);  // u64 elements
  append_u64(value, std::uint64_t{1} << 61);
  EXPECT_NE(refusal(GgufWriter().add_raw("a", 9, value).finish()).message.find("limit 16777216"), std::string::npos);
  value.clear();
  for (int i = 0; i < 64; ++i) {
    append_u32(value, 9);
    append_u64(value, 1);
  }
  EXPECT_NE(refusal(GgufWriter().add_raw("a", 9, value).finish()).message.find("nested deeper than 4"),
            std::string::npos);
}

TEST(Gguf, OC_ENGINE_1008_refuses_duplicates_unknown_types_and_bad_booleans) {
  EXPECT_EQ(refusal(GgufWriter().add_u32("k", 1).add_u32("k", 2).finish()).message, "key appears twice");
  EXPECT_NE(refusal(GgufWriter().add_raw("k", 13, {}).finish()).message.find("unknown value type 13"),
            std::string::npos);
  EXPECT_NE(refusal(GgufWriter().add_raw("k", 7, {std::byte{2}}).finish()).message.find("boolean"), std::string::npos);
  const std::vector<std::byte> four(4);
  EXPECT_EQ(refusal(GgufWriter().add_tensor("t", {1}, 0, four).add_tensor("t", {1}, 0, four).finish()).message,
            "tensor name appears twice");
}

TEST(Gguf, OC_ENGINE_1008_refuses_tensor_extents) {
  const std::vector<std::byte> four(4);
  EXPECT_NE(refusal(GgufWriter().add_tensor("t", {1u << 20}, 0, four).finish()).message.find("needs 4194304 bytes"),
            std::string::npos);
  EXPECT_NE(refusal(GgufWriter().add_tensor("t", {0}, 0, four).finish()).message.find("dimension 0"),
            std::string::npos);
  const std::uint64_t big = std::uint64_t{1} << 33;
  EXPECT_EQ(refusal(GgufWriter().add_tensor("t", {big, big, big}, 0, four).finish()).field, "t");
  EXPECT_NE(refusal(GgufWriter().add_tensor("t", {33}, 3, four).finish()).message.find("Q4_1 block of 32"),
            std::string::npos);
  EXPECT_NE(refusal(GgufWriter().add_tensor("t", {1, 1, 1, 1, 1}, 0, four).finish()).message.find("limit 4"),
            std::string::npos);
  EXPECT_NE(refusal(GgufWriter().add_tensor(std::string(65, 'n'), {1}, 0, four).finish()).message.find("limit 64"),
            std::string::npos);
}

TEST(Gguf, OC_ENGINE_1008_refuses_alignments) {
  for (const std::uint32_t alignment : {0U, 1U, 12U, 1U << 21}) {
    GgufWriter writer;
    writer.add_u32("general.alignment", alignment);
    EXPECT_EQ(refusal(writer.finish()).field, "general.alignment") << alignment;
  }
}

TEST(Gguf, OC_ENGINE_1008_missing_file_and_directory_are_told_apart) {
  auto missing = GgufFile::open("no/such/model.gguf");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind, ModelErrorKind::missing_file);
  auto directory = GgufFile::open(".");
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().kind, ModelErrorKind::bad_file);
}

// A model of three parts on disk; `change` may alter a part's writer.
class Split : public ::testing::Test {
 protected:
  std::string path(int part) const { return folder.path() + "/m-0000" + std::to_string(part) + "-of-00003.gguf"; }
  void write(int part, std::uint32_t number, std::uint32_t count, const std::string& tensor = "") const {
    GgufWriter writer;
    if (part == 1) writer.add_string("general.name", "whole").add_u32("split.tensors.count", 3);
    writer.add_u32("split.no", number).add_u32("split.count", count);
    writer.add_tensor(tensor.empty() ? "t" + std::to_string(part) : tensor, {1}, 0,
                      std::vector<std::byte>(4, static_cast<std::byte>(part)));
    const std::vector<std::byte> bytes = writer.finish();
    std::ofstream(path(part), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void write_all() const {
    for (int part = 1; part <= 3; ++part) write(part, static_cast<std::uint32_t>(part - 1), 3);
  }
  ModelError refusal(const std::string& file) const {
    auto opened = GgufFile::open(file);
    EXPECT_FALSE(opened.ok());
    return opened.ok() ? ModelError{} : opened.error();
  }
  orch::testing::TempFolder folder;
};

TEST_F(Split, OC_ENGINE_1012_parts_read_as_one_file) {
  write_all();
  auto file = GgufFile::open(path(1));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ((*file)->tensors().size(), 3u);
  for (int part = 1; part <= 3; ++part) {
    const GgufTensor* tensor = (*file)->find_tensor("t" + std::to_string(part));
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->bytes[0], static_cast<std::byte>(part));
  }
  EXPECT_EQ((*file)->contents().size(), 3u);
  EXPECT_EQ(*(*file)->string_value("general.name").value(), "whole");
}

TEST_F(Split, OC_ENGINE_1012_a_missing_or_wrong_part_is_named) {
  write_all();
  EXPECT_EQ(refusal(path(2)).field, "split.no");
  std::filesystem::remove(path(3));
  EXPECT_EQ(refusal(path(1)).kind, ModelErrorKind::missing_file);
  EXPECT_NE(refusal(path(1)).message.find("m-00003-of-00003.gguf"), std::string::npos);
  write(3, 1, 3);
  EXPECT_EQ(refusal(path(1)).field, "split.no");
  write(3, 2, 4);
  EXPECT_EQ(refusal(path(1)).field, "split.no");
  write(3, 2, 3, "t2");
  EXPECT_NE(refusal(path(1)).message.find("earlier part"), std::string::npos);
  write(3, 2, 3);
  write(1, 0, 2);
  EXPECT_EQ(refusal(path(1)).field, "model.path");  // 2 parts, named as 3
  write(1, 0, 100000);
  EXPECT_EQ(refusal(path(1)).field, "split.count");
}

// What a mutated file may do: be refused, or load with the same meaning. Never crash, hang or read outside (run under
// ASan too).
bool loads(const std::vector<std::byte>& bytes) {
  // An exact copy on the heap, so that one byte too far is seen.
  const std::vector<std::byte> exact(bytes.begin(), bytes.end());
  auto file = GgufFile::parse(exact);
  return file.ok() && load_model(**file, {}).ok();
}

TEST(Gguf, OC_ENGINE_1008_every_truncation_of_a_model_is_refused) {
  testing::TinyShape shape;
  shape.layers = 1;
  shape.vocabulary = 40;
  const std::vector<std::byte> whole = testing::tiny_model_file(shape);
  ASSERT_TRUE(loads(whole));
  std::size_t last_tensor_end = whole.size();
  while (last_tensor_end > 0 && whole[last_tensor_end - 1] == std::byte{0}) --last_tensor_end;
  for (std::size_t size = 0; size < last_tensor_end; size += size < 3000 ? 1 : 97) {
    EXPECT_FALSE(loads({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)})) << size;
  }
}

TEST(Gguf, OC_ENGINE_1008_flipped_bytes_never_crash) {
  testing::TinyShape shape;
  shape.layers = 1;
  shape.vocabulary = 40;
  const std::vector<std::byte> whole = testing::tiny_model_file(shape);
  Prng prng(5);
  std::size_t refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::byte> bytes = whole;
    const std::uint64_t changes = 1 + prng.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) {
      bytes[prng.below(2400)] = static_cast<std::byte>(prng.below(256));  // the header's part
    }
    refused += loads(bytes) ? 0U : 1U;
  }
  EXPECT_GT(refused, 2000U);  // most of the header is checked
}

TEST(Gguf, OC_ENGINE_1008_extreme_words_in_every_header_place_never_crash) {
  testing::TinyShape shape;
  shape.layers = 1;
  shape.vocabulary = 40;
  const std::vector<std::byte> whole = testing::tiny_model_file(shape);
  for (std::size_t at = 0; at + 8 <= 2400; ++at) {
    for (const std::uint64_t word :
         {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{0x7FFF'FFFF}, std::uint64_t{0}}) {
      std::vector<std::byte> bytes = whole;
      std::memcpy(bytes.data() + at, &word, sizeof(word));
      static_cast<void>(loads(bytes));
    }
  }
}

TEST(Model, OC_ENGINE_1008_refuses_by_name) {
  testing::TinyShape shape;
  shape.layers = 1;
  auto load = [](const GgufWriter& writer) {
    const std::vector<std::byte> bytes = writer.finish();
    auto file = GgufFile::parse(bytes);
    if (!file.ok()) return file.error();
    auto model = load_model(**file, {});
    return model.ok() ? ModelError{} : model.error();
  };
  GgufWriter mamba;
  mamba.add_string("general.architecture", "mamba");
  EXPECT_EQ(load(mamba).kind, ModelErrorKind::unsupported);
  EXPECT_NE(load(mamba).message.find("'mamba'"), std::string::npos);

  GgufWriter scaled = testing::tiny_model_writer(shape);
  scaled.add_string("llama.rope.scaling.type", "longrope");
  EXPECT_EQ(load(scaled).field, "llama.rope.scaling.type");
  GgufWriter yarn = testing::tiny_model_writer(shape);
  yarn.add_string("llama.rope.scaling.type", "yarn");
  EXPECT_EQ(load(yarn).field, "llama.rope.scaling.original_context_length");

  for (const float factor : {0.0F, -1.0F, 1e9F}) {  // would leave the range of the table's sine
    GgufWriter factors = testing::tiny_model_writer(shape);
    std::vector<std::byte> bytes(shape.head_dim / 2 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 4) std::memcpy(bytes.data() + i, &factor, 4);
    factors.add_tensor("rope_freqs.weight", {shape.head_dim / 2}, 0, bytes);
    EXPECT_EQ(load(factors).field, "rope_freqs.weight") << factor;
  }

  GgufWriter gemma2;
  gemma2.add_string("general.architecture", "gemma2");
  EXPECT_NE(load(gemma2).message.find("soft-capping"), std::string::npos);
  GgufWriter capped = testing::tiny_model_writer(shape);
  capped.add_f32("llama.final_logit_softcapping", 30.0F);
  EXPECT_EQ(load(capped).field, "llama.final_logit_softcapping");
  GgufWriter more = testing::tiny_model_writer(shape);
  more.add_tensor("blk.0.attn_sinks.weight", {8}, 0, std::vector<std::byte>(32));
  EXPECT_EQ(load(more).field, "blk.0.attn_sinks.weight");

  GgufWriter both_ways = testing::tiny_model_writer(shape);
  both_ways.add_bool("llama.attention.causal", false);
  EXPECT_EQ(load(both_ways).field, "llama.attention.causal");
  EXPECT_EQ(load(both_ways).kind, ModelErrorKind::unsupported);
  GgufWriter one_way = testing::tiny_model_writer(shape);
  one_way.add_bool("llama.attention.causal", true);
  EXPECT_EQ(load(one_way).message, "");

  GgufWriter other;
  other.add_string("general.architecture", "llama").add_u32("llama.block_count", 1).add_u32("llama.context_length", 64);
  other.add_u32("llama.embedding_length", 256).add_u32("llama.feed_forward_length", 256);
  other.add_u32("llama.attention.head_count", 8).add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  other.add_tensor("token_embd.weight", {256, 16}, 10, std::vector<std::byte>(16 * 84));
  EXPECT_NE(load(other).message.find("Q2_K is not built; supported here: F32, F16, BF16, Q8_0, Q6_K"),
            std::string::npos);
  EXPECT_EQ(load(other).field, "token_embd.weight");
}

}  // namespace
}  // namespace orch::worker
