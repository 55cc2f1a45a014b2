#include "determinism/cell.h"

#include <algorithm>
#include <array>

#include "common/base/prng.h"
#include "determinism/hashed_mask.h"
#include "worker/core/kv_pages.h"

namespace orch::determinism {

using worker::SequenceRequest;
using worker::TensorType;

namespace {

// Byte tokens and one end token (worker/core/batch_fixture.h); the model has some more, which nothing draws.
constexpr std::uint32_t kTokens = 257;
constexpr std::uint32_t kVocabulary = 261;
// Of the job's prompt, in a neighbour's where there are many: a batch of 64 is to end in time.
constexpr std::uint32_t kSharedByManyMax = 70;
constexpr std::uint32_t kMany = 8;
// Rows of a step beside one of each neighbour, and per cent of the steps that preempt somebody: a long prompt is to be
// fed between two preemptions, also that of the last in a crowd, which gets what the others leave.
constexpr std::uint32_t kFeedMin = 49;
constexpr std::uint32_t kPreemptMax = 12;
constexpr std::uint32_t kCrowdPreemptMax = 5;
constexpr std::uint32_t kEndToken = 0;
constexpr float kNever = -100.0F;

std::uint32_t below(Prng& prng, std::uint64_t bound) { return static_cast<std::uint32_t>(prng.below(bound)); }

// Tokens of a prompt: letters for a tiny model, words for a real one.
std::vector<std::uint32_t> prompt_tokens(Prng& prng, std::uint32_t count, const FileModel* file) {
  if (file != nullptr) return file->words(prng, count);
  std::vector<std::uint32_t> out;
  out.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) out.push_back(1 + 'a' + below(prng, 26));
  return out;
}

// `tokens`: of the tokenizer.
void draw_sampling(Prng& prng, std::uint32_t tokens, SequenceRequest& job) {
  worker::SamplerParams& params = job.sampling;
  params.temperature = prng.below(4) == 0 ? 0.0F : static_cast<float>(0.2 + 1.6 * prng.unit());
  if (prng.below(3) == 0) params.top_k = 1 + below(prng, 60);
  if (prng.below(3) == 0) params.top_p = static_cast<float>(0.3 + 0.7 * prng.unit());
  if (prng.below(4) == 0) params.min_p = static_cast<float>(0.1 * prng.unit());
  if (prng.below(3) == 0) {
    params.repetition_penalty = 1.3F;
    params.frequency_penalty = 0.4F;
    params.presence_penalty = -0.3F;
  }
  if (prng.below(3) == 0) params.logit_bias = {{1 + below(prng, kTokens - 1), 2.5F}};
  if (prng.below(3) == 0) job.log_probs = below(prng, 4);
  job.seed = prng.next();
  if (job.seed % 4 == 0) job.mask = std::make_shared<HashedMask>(job.seed, tokens);
}

}  // namespace

namespace {

constexpr std::array kTypes = {TensorType::f32,  TensorType::f16,  TensorType::bf16, TensorType::q8_0,
                               TensorType::q6_k, TensorType::q5_k, TensorType::q5_1, TensorType::q5_0,
                               TensorType::q4_k, TensorType::q4_1, TensorType::q4_0};

// Eleven seeds have every type of matrices, 44 each with every architecture; the rest is drawn.
worker::testing::TinyShape tiny_shape(std::uint64_t seed) {
  constexpr std::array kArchitectures = {"llama", "qwen2", "qwen3", "gemma3"};
  Prng prng(~seed);
  worker::testing::TinyShape shape;
  shape.architecture = kArchitectures[seed % kArchitectures.size()];
  if (shape.architecture == std::string("gemma3")) {  // the sixth layer has no window
    shape.window = 64;
    shape.layers = 7;
  }
  shape.matrices = kTypes[seed % kTypes.size()];
  shape.embedding_type = kTypes[prng.below(kTypes.size())];
  if (prng.below(2) == 0) shape.value_and_down = kTypes[prng.below(kTypes.size())];
  shape.tied = prng.below(2) == 0;
  if (worker::is_wide(shape.matrices) || worker::is_wide(shape.embedding_type) ||
      worker::is_wide(shape.value_and_down.value_or(shape.matrices))) {  // rows of whole groups of 256
    shape.embedding = 256;
    shape.feed_forward = 256;
    shape.heads = 16;
    shape.kv_heads = 4;
  }
  shape.vocabulary = kVocabulary;
  shape.context = kTinyContext;
  shape.seed = seed;
  return shape;
}

std::uint32_t tokens_of(const Case& of) { return of.file == nullptr ? kTokens : of.file->tokenizer().size(); }

}  // namespace

Case make_case(std::uint64_t seed, const FileModel* file) {
  Prng prng(seed * 2 + 1);
  Case out;
  out.file = file;
  if (file == nullptr) out.shape = tiny_shape(seed);
  out.job.id = {{Uuid{1, seed}}, 1};
  // A quarter of the tiny models' jobs begin shortly before or behind the end of the first attention split.
  const bool at_split = file == nullptr && prng.below(4) == 0;
  const std::uint32_t length = at_split ? 240 + below(prng, 61) : 1 + below(prng, prng.below(3) == 0 ? 140 : 60);
  out.job.prompt = prompt_tokens(prng, length, file);
  out.job.max_tokens = 4 + below(prng, 20);
  draw_sampling(prng, tokens_of(out), out.job);
  // A tiny model draws noise; one that may hardly leave its words repeats them, so that drafts are accepted too.
  if (seed % 3 == 0) out.job.sampling.logit_bias = {{1 + 'q', 6.0F}, {1 + 'r', 6.0F}};
  if (prng.below(4) == 0) out.job.prompt_log_probs = 1;
  return out;
}

const char* device_name(Device device) {
  switch (device) {
    case Device::scalar:
      return "scalar";
    case Device::avx2:
      return "avx2";
    case Device::avx512vnni:
      return "avx512vnni";
    case Device::vulkan:
      return "vulkan";
  }
  return "?";
}

std::string Cell::describe() const {
  return std::string(device_name(device)) + " threads=" + std::to_string(threads) +
         " rows=" + std::to_string(rows_max) + " pages=" + std::to_string(pages) + (share_prefixes ? " shared" : "") +
         (crowded ? " crowded" : "") + (speculates ? " speculates" : "") + (own_inputs ? " own-inputs" : "") +
         " neighbours=" + std::to_string(neighbours) + " preempt=" + std::to_string(preempt_percent) +
         "% resume=" + std::to_string(resume_behind);
}

Cell make_cell(std::uint64_t seed, std::uint32_t number, const CellChoice& choice) {
  Prng prng(seed * 1000 + number);
  Cell out;
  out.seed = prng.next();
  out.device = choice.avx2 && prng.below(8) != 0 ? Device::avx2 : Device::scalar;
  // Where both are there, cells that AVX2 would compute elsewhere are shared out by number; the draws stay the same.
  if (choice.avx512vnni && number % 2 == 0 && out.device == Device::avx2) out.device = Device::avx512vnni;
  if (choice.vulkan && prng.below(2) == 0) out.device = Device::vulkan;
  out.own_inputs = out.device == Device::vulkan && out.seed % 2 == 0;
  out.threads = 1 + below(prng, 3);
  // A few neighbours mostly, now and then a full batch.
  constexpr std::array<std::uint32_t, 9> kNeighbours = {0, 1, 2, 3, 5, 7, 15, 31, 63};
  out.neighbours = kNeighbours[below(prng, prng.below(6) == 0 ? kNeighbours.size() : 6)];
  if (choice.small) {
    if (choice.avx2 && out.device == Device::scalar) out.device = Device::avx2;
    out.neighbours = 1 + out.neighbours % 3;
  }
  out.rows_max = out.neighbours + 1 + below(prng, prng.below(2) == 0 ? 8 : 64);
  out.share_prefixes = prng.below(3) != 0;
  const std::uint32_t each = worker::pages_for(choice.small ? kFileContext : kTinyContext);
  out.pages = prng.below(3) == 0 ? each + below(prng, each) : each * (out.neighbours + 2);
  out.preempt_percent = prng.below(3) == 0 ? 10 + below(prng, 30) : 0;
  if (prng.below(3) == 0) out.resume_behind = 1 + below(prng, 4);
  out.speculates = prng.below(2) == 0;
  out.crowded = !choice.small && prng.below(2) == 0;
  if (out.crowded) out.pages = each * (out.neighbours + 2);  // nobody waits for pages
  if (!choice.small && (out.crowded || out.preempt_percent > 0)) {
    out.rows_max = std::max(out.rows_max, out.neighbours + kFeedMin);
    out.preempt_percent = std::min(out.preempt_percent, out.crowded ? kCrowdPreemptMax : kPreemptMax);
  }
  return out;
}

SequenceRequest make_neighbour(const Case& of, const Cell& cell, std::uint32_t number) {
  Prng prng(cell.seed + number);
  SequenceRequest out;
  out.id = {{Uuid{2, number}}, 1};
  if (prng.below(2) == 0) {
    const std::size_t most = cell.neighbours < kMany ? of.context() : kSharedByManyMax;
    const std::size_t same = 1 + prng.below(std::min(of.job.prompt.size(), most));
    out.prompt.assign(of.job.prompt.begin(), of.job.prompt.begin() + static_cast<std::ptrdiff_t>(same));
  }
  const std::vector<std::uint32_t> rest = prompt_tokens(prng, 1 + below(prng, 40), of.file);
  out.prompt.insert(out.prompt.end(), rest.begin(), rest.end());
  out.max_tokens = 1 + below(prng, 24);
  draw_sampling(prng, tokens_of(of), out);
  if (cell.crowded) {
    out.max_tokens = of.context() - static_cast<std::uint32_t>(out.prompt.size());
    out.sampling.logit_bias.push_back({kEndToken, kNever});
  }
  return out;
}

}  // namespace orch::determinism
