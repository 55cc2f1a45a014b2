#include "worker/shell/native_model.h"

#include <utility>

#include "common/runtime/clock.h"
#include "worker/core/numerics.h"
#include "worker/model/file_digest.h"
#include "worker/shell/speed_probe.h"
#include "worker/text/gguf_vocabulary.h"

namespace orch::worker {

namespace {

struct Words {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;
};

Result<Words, ModelError> load_words(const GgufFile& file) {
  Words out;
  auto data = read_vocabulary(file);
  if (!data.ok()) return Err{data.error()};
  auto tokenizer = Tokenizer::create(std::move(data.value()));
  if (!tokenizer.ok()) return Err{ModelError{ModelErrorKind::unsupported, "tokenizer.ggml", tokenizer.error()}};
  out.tokenizer = std::make_shared<const Tokenizer>(std::move(tokenizer.value()));
  auto source = read_chat_template(file);
  if (!source.ok()) return Err{source.error()};
  if (!source.value()) return out;
  const auto text_of = [&out](std::optional<TokenId> id) { return id ? out.tokenizer->text_of(*id) : std::string(); };
  auto made = ChatTemplate::create(**source, {text_of(out.tokenizer->bos()), text_of(out.tokenizer->eos())});
  if (!made.ok()) return Err{ModelError{ModelErrorKind::unsupported, "tokenizer.chat_template", made.error()}};
  out.chat_template = std::make_shared<const ChatTemplate>(std::move(made.value()));
  return out;
}

}  // namespace

int exit_code_of(const ModelError& error) {
  switch (error.kind) {
    case ModelErrorKind::missing_file:
      return 66;
    case ModelErrorKind::io:
      return 66;
    case ModelErrorKind::bad_file:
      return 65;
    case ModelErrorKind::unsupported:
      return 65;
    case ModelErrorKind::memory:
      return 71;
    case ModelErrorKind::device_unavailable:
      return 69;
  }
  return 70;
}

EngineFailure to_failure(const ModelError& error) {
  const Outcome outcome =
      error.kind == ModelErrorKind::device_unavailable ? Outcome::POOL_UNAVAILABLE : Outcome::POOL_UNREADY;
  return {outcome, error.field.empty() ? error.message : error.field + ": " + error.message, error.field};
}

EngineInfo initial_info(const NativeModelOptions& options) {
  EngineInfo info;
  info.engine = kEngineName;
  // OC-ENGINE-1031: part of the key of a replica set.
  info.engine_version = ORCH_VERSION "+numerics." + std::to_string(numerics::kContractVersion) + "." + tokens_version();
  info.sampler_profile_version = kSamplerProfileVersion;
  info.model_name = options.name;
  info.model_digest = options.digest;
  info.slots = options.backend.slots;
  return info;
}

Result<NativeModel, ModelError> load_native_model(std::unique_ptr<GgufFile> file, const NativeModelOptions& options,
                                                  const std::function<void(float)>& progress) {
  // Reading for the digest brings the file into the page cache, which the repack then profits from.
  const auto part = [&progress](float from, float to) {
    return [&progress, from, to](float done) {
      if (progress) progress(from + (to - from) * done);
    };
  };
  auto digest = sha256_of(file->contents(), part(0.0F, 0.2F));
  if (!digest.ok()) return Err{digest.error()};
  if (!options.digest.empty() && options.digest != digest.value()) {
    return Err{ModelError{ModelErrorKind::bad_file, "model digest",
                          "the file has digest " + digest.value() + "; expected " + options.digest}};
  }
  auto words = load_words(*file);
  if (!words.ok()) return Err{words.error()};
  auto loaded = create_backend(*file, options.backend, part(0.2F, 0.95F));
  if (!loaded.ok()) return Err{loaded.error()};
  const std::uint64_t file_bytes = file->content_bytes();
  file.reset();

  NativeModel out;
  out.backend = std::move(loaded->backend);
  out.tokenizer = words->tokenizer;
  out.chat_template = words->chat_template;
  out.vocabulary = loaded->config.vocabulary;
  out.embedding = loaded->config.embedding;
  out.pooling = loaded->config.pooling;
  if (out.vocabulary < out.tokenizer->size()) {
    return Err{ModelError{ModelErrorKind::bad_file, "tokenizer.ggml.tokens",
                          std::to_string(out.tokenizer->size()) + " tokens; the model has " +
                              std::to_string(out.vocabulary) + " embeddings"}};
  }
  out.memory = describe(loaded->memory);
  const BackendInfo device = out.backend->info();
  EngineInfo& info = out.info;
  info = initial_info(options);
  info.model_digest = digest.value();
  info.quant = loaded->config.quant;
  info.architecture = loaded->config.architecture.name;
  info.ctx_max = loaded->memory.context;
  info.ctx_wanted = loaded->memory.context_wanted;
  info.slots = loaded->memory.slots;
  info.numeric_class = device.numeric_class;
  info.accelerator = device.accelerator;
  info.device_name = device.device_name;
  info.skipped_devices = loaded->skipped_devices;
  info.kernels = device.name;
  info.model_bytes = file_bytes;
  info.memory_bytes = loaded->memory.total_bytes();
  info.template_available = out.chat_template != nullptr;
  info.interruptible_decode = true;
  info.prefix_cache = true;
  const EngineSpeed speed = measure_speed(*out.backend, out.vocabulary, info.ctx_max, runtime::now);
  info.prefill_tokens_per_second = speed.prefill;
  info.decode_tokens_per_second = speed.decode;
  // BOS apart, which the template's margin covers (ruling 13). 0: no bound known, every count is exact.
  const bool bounded = out.tokenizer->never_more_tokens_than_bytes();
  info.token_bytes_expansion = bounded ? 1.0F : 0.0F;
  if (bounded && out.chat_template != nullptr) {
    if (const auto bounds = out.chat_template->bounds()) {
      info.template_fixed_bytes = bounds->fixed_bytes;
      info.template_per_message_bytes = bounds->per_message_bytes;
    } else {
      info.token_bytes_expansion = 0;  // no bound known: every count is exact
    }
  }
  return out;
}

}  // namespace orch::worker
