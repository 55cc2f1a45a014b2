// Any bytes as a model file: refused with a field and a reason, or every value and tensor that is handed out lies
// inside the file, and the model loads or is refused by name (OC-ENGINE-1008).
#include "common/testing/fuzz_target.h"
#include "worker/model/gguf_file.h"
#include "worker/model/memory_estimate.h"
#include "worker/model/model_config.h"
#include "worker/model/weights.h"
#include "worker/testing/tiny_model.h"

namespace orch::testing {
namespace {

using worker::testing::GgufWriter;

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

GgufWriter values(Prng& prng) {
  GgufWriter writer;
  writer.version = static_cast<std::uint32_t>(2 + prng.below(2));
  writer.add_u32("u", 7).add_f32("f", 0.5F).add_bool("b", true).add_string("s", "text");
  writer.add_strings("ss", {"a", "", "ccc"}).add_i32s("is", {-1, 2}).add_f32s("fs", {1.5F});
  for (std::uint64_t i = prng.below(4); i > 0; --i) {
    const auto type = static_cast<std::uint32_t>(prng.below(14));  // one more than there are
    writer.add_raw("r" + std::to_string(i), type, std::vector<std::byte>(prng.below(24), std::byte{1}));
  }
  if (prng.chance(1, 2)) writer.add_u32("general.alignment", static_cast<std::uint32_t>(8 * prng.below(9)));
  if (prng.chance(1, 2)) writer.add_tensor("t", {32, prng.below(3)}, 3, std::vector<std::byte>(prng.below(64)));
  return writer;
}

}  // namespace

std::string make_seed(Prng& prng) {
  if (prng.chance(1, 2)) return text_of(values(prng).finish());
  worker::testing::TinyShape shape;
  shape.layers = 1;
  shape.embedding = shape.feed_forward = 32;
  shape.heads = 2;
  shape.kv_heads = 1;
  shape.vocabulary = 8;
  shape.tied = prng.chance(1, 2);
  shape.seed = prng.next();
  return text_of(worker::testing::tiny_model_file(shape));
}

}  // namespace orch::testing

namespace {

using namespace orch::worker;

// Reads every byte of the span, so that the address sanitizer sees a view that leaves the file.
std::uint64_t touch(const void* data, std::size_t size) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += static_cast<const unsigned char*>(data)[i];
  return sum;
}

void explained(const ModelError& error) { ORCH_CHECK(!error.field.empty() && !error.message.empty()); }

void read_all(const GgufFile& file, std::string_view key) {
  if (const auto text = file.string_value(key); text.ok() && *text)
    static_cast<void>(touch((*text)->data(), (*text)->size()));
  if (const auto texts = file.string_array(key); texts.ok() && *texts) {
    for (const std::string_view text : **texts) static_cast<void>(touch(text.data(), text.size()));
  }
  for (const bool ok : {file.unsigned_value(key).ok(), file.float_value(key).ok(), file.bool_value(key).ok(),
                        file.integer_array(key).ok(), file.float_array(key).ok()}) {
    static_cast<void>(ok);
  }
}

void load(const GgufFile& file) {
  const auto config = read_model_config(file);
  if (!config.ok()) return explained(config.error());
  const auto estimate = estimate_memory(*config, repacked_weight_bytes(file), {}, {.bytes = std::uint64_t{1} << 30});
  if (!estimate.ok()) return explained(estimate.error());
  const auto model = load_model(file, {});
  if (!model.ok()) return explained(model.error());
  for (const auto& tensor : model->weights.tensors) static_cast<void>(tensor);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = GgufFile::parse(std::as_bytes(std::span(data, size)));
  if (!parsed.ok()) {
    explained(parsed.error());
    return 0;
  }
  const GgufFile& file = **parsed;
  for (const char* key : {"u", "f", "b", "s", "ss", "is", "fs", "r1", "r2", "r3", "general.alignment", "absent"})
    read_all(file, key);
  for (const GgufTensor& tensor : file.tensors()) {
    ORCH_CHECK(file.find_tensor(tensor.name) == &tensor);
    static_cast<void>(touch(tensor.bytes.data(), tensor.bytes.size()));
  }
  load(file);
  return 0;
}
