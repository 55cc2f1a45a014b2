#include "worker/vulkan/program_builder.h"

#include <algorithm>

#include "worker/core/numerics.h"
#include "worker/vulkan/step_layout.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kLeavesMax = 1024;  // row_norm.glsl

Err<VulkanError> unsupported(std::string message) {
  return Err{VulkanError{VulkanErrorKind::unsupported_model, std::move(message)}};
}

}  // namespace

Status<VulkanError> ProgramBuilder::check_shape() const {
  const ModelConfig& config = model_.config;
  if (config.head_dim % 8 != 0 || config.rope_dims % 2 != 0) {
    return unsupported("head dimension " + std::to_string(config.head_dim) +
                       "; the Vulkan kernels take multiples of 8");
  }
  if (config.embedding % kTileCols != 0 || config.q_width() % kTileCols != 0 || config.feed_forward % kTileCols != 0) {
    return unsupported("widths " + std::to_string(config.embedding) + ", " + std::to_string(config.q_width()) +
                       " and " + std::to_string(config.feed_forward) + "; the Vulkan kernels take multiples of 32");
  }
  if (config.embedding / numerics::kLeaf > kLeavesMax) {
    return unsupported("width " + std::to_string(config.embedding) + "; the Vulkan norm takes at most " +
                       std::to_string(kLeavesMax * numerics::kLeaf));
  }
  return Ok{};
}

Result<std::vector<PlannedDispatch>, VulkanError> ProgramBuilder::build() {
  ORCH_TRY(checked, check_shape());
  static_cast<void>(checked);
  for (const Op& op : model_.plan.ops) {
    ORCH_TRY(added, add(op));
    static_cast<void>(added);
  }
  ORCH_CHECK(!activation_ && !attention_ && !joining_);      // an operation whose result nothing reads
  ORCH_CHECK(stream_ == buffers_.offset(Buffer::residual));  // where the backend reads hidden states
  return std::move(dispatches_);
}

Status<VulkanError> ProgramBuilder::add(const Op& op) {
  switch (op.kind) {
    case OpKind::embed:
      return add_embed(op);
    case OpKind::norm_matmul:
      return add_norm_matmul(op);
    case OpKind::rope_store_kv:
      return add_rope(op);
    case OpKind::attention:
      return add_attention(op);
    case OpKind::matmul_residual:
      return add_matmul_residual(op);
    case OpKind::silu_mul:
      activation_ = MatmulSource::silu_mul;
      return Ok{};
    case OpKind::gelu_mul:
      activation_ = MatmulSource::gelu_mul;
      return Ok{};
    case OpKind::norm_add:
      joining_ = op;
      return Ok{};
  }
  return unsupported("an operation without a Vulkan kernel");
}

Status<VulkanError> ProgramBuilder::push_back(const KernelVariant& variant, const Bindings& bindings,
                                              PlannedDispatch dispatch) {
  auto pipeline = device_.pipeline(variant);
  if (!pipeline.ok()) return Err{pipeline.error()};
  Bindings all = bindings;
  all.reads[0] = buffers_.step().words();
  // A binding that this variant of the kernel never reaches must still be valid; it must not look like a use either.
  for (VkBufferView& view : all.reads) view = view == VK_NULL_HANDLE ? buffers_.step().words() : view;
  for (VkBuffer& buffer : all.writes) buffer = buffer == VK_NULL_HANDLE ? buffers_.records().handle() : buffer;
  auto set = device_.bind(all);
  if (!set.ok()) return Err{set.error()};
  dispatch.pipeline = pipeline.value();
  dispatch.set = set.value();
  dispatches_.push_back(std::move(dispatch));
  return Ok{};
}

Status<VulkanError> ProgramBuilder::add_embed(const Op& op) {
  ORCH_TRY(matrix, weights_.matrix({op.parts[0].weight}));
  Bindings bindings;
  bindings.reads[1] = matrix->quants->texels();
  if (matrix->scales != nullptr) bindings.reads[2] = matrix->scales->words();
  bindings.writes[0] = buffers_.activations().handle();
  PlannedDispatch dispatch;
  const std::uint32_t blocks = matrix->blocks * (tile_cols(matrix->type) / kTileCols);
  dispatch.push = bytes_of(EmbedPush{blocks, buffer_width(model_.config, op.out), buffers_.row_words() / 4,
                                     buffers_.offset(op.out) / 4, op.scale});
  dispatch.x = lanes(blocks);
  dispatch.barrier_before = false;
  return push_back(embed_variant(matrix->type), bindings, std::move(dispatch));
}

VkBufferView ProgramBuilder::source_of(const MatmulInput& input) {
  return input.source == MatmulSource::attention_splits ? buffers_.partials().texels()
                                                        : buffers_.activations().texels();
}

// The norm of the row, and behind it that of what joins first.
Result<VkBufferView, VulkanError> ProgramBuilder::norms_of(const MatmulInput& input) {
  if (input.norm == kNoTensor) return VkBufferView{VK_NULL_HANDLE};
  std::vector<TensorId> ids{input.norm};
  if (input.added_norm != kNoTensor) ids.push_back(input.added_norm);
  ORCH_TRY(norms, weights_.vector(ids));
  return norms->texels();
}

InputPush ProgramBuilder::push_of(const MatmulInput& input) const {
  InputPush push{};
  push.stride = buffers_.row_words() / 4;
  push.source = place(input.in) / 4;
  push.second = input.second == Buffer::none ? push.source : place(input.second) / 4;
  push.inverse = 1.0F / static_cast<float>(buffer_width(model_.config, input.in));
  push.eps = model_.config.rms_epsilon;
  push.head_texels = model_.config.head_dim / 4;
  push.splits_max = buffers_.splits_max();
  push.window = input.window;
  return push;
}

Status<VulkanError> ProgramBuilder::add_prepare(const MatmulInput& input, const Op& op) {
  std::uint32_t outputs = 0;
  for (const MatmulPart& part : op.parts) outputs |= record_kind(weights_.tensor(part.weight).type);
  Bindings bindings;
  bindings.reads[1] = source_of(input);
  ORCH_TRY(norms, norms_of(input));
  bindings.reads[2] = norms;
  bindings.writes[0] = buffers_.records().handle();
  bindings.writes[1] = buffers_.floats().handle();
  if (input.source == MatmulSource::joined_norm) bindings.writes[2] = buffers_.activations().handle();
  PreparePush push{};
  push.groups = buffer_width(model_.config, input.in) / numerics::kQuantBlock;
  push.byte_base = buffers_.byte_record_base();
  push.wide_base = buffers_.wide_record_base();
  push.wanted = op.wanted_rows_only ? 1 : 0;
  push.input = push_of(input);
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  const bool row_at_once = input.source == MatmulSource::rms_norm || input.source == MatmulSource::joined_norm;
  dispatch.x = row_at_once ? 1 : lanes(push.groups);
  dispatch.y = op.wanted_rows_only ? RowRule::wanted : RowRule::rows;
  return push_back(prepare_variant(input.source, outputs), bindings, std::move(dispatch));
}

// OC-DEVICE-1006. The head is left out: one dispatch of a step, before the most workgroups.
bool ProgramBuilder::makes_own_input(const MatmulInput& input, const Op& op) const {
  const bool norm = input.source == MatmulSource::rms_norm || input.source == MatmulSource::joined_norm;
  const bool join = input.source == MatmulSource::attention_splits;
  if (op.wanted_rows_only || !(norm || join) || form_.own == OwnInputs::none) return false;
  if (join && form_.own == OwnInputs::norms) return false;
  const OwnInput own{input.source, buffer_width(model_.config, input.in) / numerics::kQuantBlock};
  return std::all_of(op.parts.begin(), op.parts.end(), [&](const MatmulPart& part) {
    const TensorType type = weights_.tensor(part.weight).type;
    return is_quantised(type) && own_input_bytes(type, form_.tile_tokens, own) <= device_.tuning().shared_bytes;
  });
}

std::uint32_t ProgramBuilder::record_base(TensorType type) const {
  switch (record_kind(type)) {
    case kByteRecords:
      return buffers_.byte_record_base();
    case kWideRecords:
      return buffers_.wide_record_base();
    default:
      return 0;
  }
}

bool ProgramBuilder::can_join(const std::vector<MatmulPart>& parts) const {
  std::vector<TensorId> ids;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    ids.push_back(parts[i].weight);
    if ((parts[i].bias == kNoTensor) != (parts[0].bias == kNoTensor)) return false;
    if (i == 0) continue;
    const std::uint32_t end = buffers_.offset(parts[i - 1].out) + buffer_width(model_.config, parts[i - 1].out);
    if (buffers_.offset(parts[i].out) != end) return false;
  }
  return weights_.can_join(ids);
}

Status<VulkanError> ProgramBuilder::add_own_input(const MatmulInput& input, bool first, Bindings& bindings,
                                                  MatmulPush& push) {
  bindings.reads[3] = source_of(input);
  ORCH_TRY(norms, norms_of(input));
  if (norms != VK_NULL_HANDLE) {
    ORCH_CHECK(bindings.reads[4] == VK_NULL_HANDLE);  // matmul.glsl: nothing is added to what a norm feeds
    bindings.reads[4] = norms;
  }
  push.input = push_of(input);
  if (input.source == MatmulSource::joined_norm && first) {
    push.flags |= kWritesJoined;
    push.target = other_place() / 4;
  }
  return Ok{};
}

Status<VulkanError> ProgramBuilder::add_matmul(const std::vector<MatmulPart>& parts, const Op& op,
                                               const MatmulInput* own, bool first) {
  std::vector<TensorId> ids;
  std::vector<TensorId> biases;
  for (const MatmulPart& part : parts) {
    ids.push_back(part.weight);
    if (part.bias != kNoTensor) biases.push_back(part.bias);
  }
  ORCH_TRY(matrix, weights_.matrix(ids));
  const bool quantised = is_quantised(matrix->type);
  const bool to_logits = parts[0].out == Buffer::logits;
  Bindings bindings;
  bindings.reads[1] = matrix->quants->texels();
  if (quantised) bindings.reads[2] = matrix->scales->words();
  bindings.reads[3] = quantised ? buffers_.records().texels() : buffers_.floats().texels();
  if (op.residual != Buffer::none) bindings.reads[4] = buffers_.activations().words();
  if (!biases.empty()) {
    ORCH_TRY(bias, weights_.vector(biases));
    bindings.reads[5] = bias->words();
  }
  bindings.writes[0] = to_logits ? buffers_.logits().handle() : buffers_.activations().handle();

  MatmulPush push{};
  push.blocks = matrix->blocks;
  push.rows = matrix->rows;
  push.out_stride = to_logits ? model_.config.vocabulary : buffers_.row_words();
  push.out_offset = to_logits ? 0 : place(parts[0].out);
  push.residual_stride = buffers_.row_words();
  push.residual_offset = op.residual == Buffer::none ? 0 : place(op.residual);
  push.record_base = record_base(matrix->type);
  push.count_word = op.wanted_rows_only ? kWantedCountWord : kRowsCountWord;
  push.flags = (biases.empty() ? 0U : kAddsBias) | (op.residual == Buffer::none ? 0U : kAddsResidual);

  const Tuning& tuning = device_.tuning();
  KernelVariant variant = matmul_variant(matrix->type, form_.tile_tokens, tuning);
  if (own != nullptr) {
    ORCH_TRY(added, add_own_input(*own, first, bindings, push));
    static_cast<void>(added);
    variant = matmul_variant(matrix->type, form_.tile_tokens, tuning,
                             {own->source, buffer_width(model_.config, own->in) / numerics::kQuantBlock});
  }
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  // The second of two that read the activation rows would do so while the first writes other places of them: apart,
  // so that the synchronisation layer, which knows buffers and no places, can vouch for the program.
  dispatch.barrier_before = first || own != nullptr;
  if (!quantised) {
    dispatch.x = lanes(matrix->rows);
    dispatch.y = op.wanted_rows_only ? RowRule::wanted : RowRule::rows;
    return push_back(variant, bindings, std::move(dispatch));
  }
  dispatch.x = lanes((matrix->rows + tuning.rows_per_lane - 1) / tuning.rows_per_lane);
  dispatch.y = op.wanted_rows_only ? RowRule::wanted_tiles : RowRule::row_tiles;
  return push_back(variant, bindings, std::move(dispatch));
}

// The input of a norm_matmul; what cannot join the stream there joins in a dispatch in front.
Result<MatmulInput, VulkanError> ProgramBuilder::norm_input(const Op& op) {
  MatmulInput input;
  input.source = MatmulSource::rms_norm;
  input.in = op.in;
  input.norm = op.norm;
  if (!joining_.has_value()) return input;
  const Op joining = *joining_;
  joining_.reset();
  if (op.wanted_rows_only || joining.out != op.in || joining.residual != joining.out) {
    ORCH_TRY(joined, add_norm(joining));
    static_cast<void>(joined);
    return input;
  }
  input.source = MatmulSource::joined_norm;
  input.in = joining.in;
  input.second = joining.residual;
  input.added_norm = joining.norm;
  return input;
}

Status<VulkanError> ProgramBuilder::add_norm_matmul(const Op& op) {
  ORCH_TRY(input, norm_input(op));
  const MatmulInput* own = makes_own_input(input, op) ? &input : nullptr;
  if (own == nullptr) {
    ORCH_TRY(prepared, add_prepare(input, op));
    static_cast<void>(prepared);
  }
  bool first = true;
  std::vector<MatmulPart> run;
  for (const MatmulPart& part : op.parts) {
    std::vector<MatmulPart> longer = run;
    longer.push_back(part);
    if (can_join(longer)) {
      run = std::move(longer);
      continue;
    }
    ORCH_TRY(added, add_matmul(run, op, own, first));
    static_cast<void>(added);
    run = {part};
    first = false;
  }
  ORCH_TRY(added, add_matmul(run, op, own, first));
  static_cast<void>(added);
  if (own != nullptr && input.source == MatmulSource::joined_norm) stream_ = other_place();
  return Ok{};
}

MatmulInput ProgramBuilder::input_of(const Op& op) {
  MatmulInput input;
  input.in = op.in;
  if (op.in == Buffer::activated) {
    ORCH_CHECK(activation_.has_value());
    input.source = *activation_;
    input.in = Buffer::gate;
    input.second = Buffer::up;
    activation_.reset();
  } else if (op.in == Buffer::attended) {
    ORCH_CHECK(attention_.has_value());
    input.source = MatmulSource::attention_splits;
    input.window = attention_->window;
    attention_.reset();
  }
  return input;
}

Status<VulkanError> ProgramBuilder::add_matmul_residual(const Op& op) {
  ORCH_CHECK(!joining_.has_value());
  const MatmulInput input = input_of(op);
  if (makes_own_input(input, op)) return add_matmul(op.parts, op, &input, true);
  ORCH_TRY(prepared, add_prepare(input, op));
  static_cast<void>(prepared);
  return add_matmul(op.parts, op, nullptr, true);
}

Status<VulkanError> ProgramBuilder::add_norm(const Op& op) {
  ORCH_TRY(norm, weights_.vector({op.norm}));
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().texels();
  bindings.reads[2] = norm->texels();
  bindings.writes[0] = buffers_.activations().handle();
  const std::uint32_t width = buffer_width(model_.config, op.in);
  PlannedDispatch dispatch;
  dispatch.push =
      bytes_of(NormPush{width / 4, buffers_.row_words() / 4, place(op.in) / 4, buffers_.offset(op.out) / 4,
                        place(op.residual) / 4, 1.0F / static_cast<float>(width), model_.config.rms_epsilon});
  if (op.out == Buffer::residual) stream_ = buffers_.offset(op.out);  // home again
  return push_back(norm_variant(), bindings, std::move(dispatch));
}

Status<VulkanError> ProgramBuilder::add_rope(const Op& op) {
  const ModelConfig& config = model_.config;
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().texels();
  bindings.reads[2] = buffers_.rope(op.local).words();
  bindings.reads[3] = buffers_.activations().words();
  if (op.query_norm != kNoTensor) {
    ORCH_TRY(norm, weights_.vector({op.query_norm}));
    bindings.reads[4] = norm->words();
  }
  if (op.key_norm != kNoTensor) {
    ORCH_TRY(norm, weights_.vector({op.key_norm}));
    bindings.reads[5] = norm->words();
  }
  bindings.writes[0] = buffers_.activations().handle();
  bindings.writes[1] = buffers_.kv(op.layer).handle();
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(RopePush{buffers_.row_words(), buffers_.offset(Buffer::query), buffers_.offset(Buffer::key),
                                    buffers_.offset(Buffer::value), config.heads, config.kv_heads, config.head_dim,
                                    config.rope_dims, buffers_.saturated_word(),
                                    1.0F / static_cast<float>(config.head_dim), config.rms_epsilon});
  dispatch.x = config.heads + 2 * config.kv_heads;
  return push_back(rope_variant(config.rope_pairing, op.query_norm != kNoTensor, op.key_norm != kNoTensor), bindings,
                   std::move(dispatch));
}

Status<VulkanError> ProgramBuilder::add_attention(const Op& op) {
  const ModelConfig& config = model_.config;
  const std::uint32_t chunks = (config.heads_per_kv() + kHeadsPerWorkgroupMax - 1) / kHeadsPerWorkgroupMax;
  const std::uint32_t heads_here = (config.heads_per_kv() + chunks - 1) / chunks;
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().texels();
  bindings.reads[2] = buffers_.kv(op.layer).texels();
  bindings.writes[0] = buffers_.partials().handle();
  PlannedDispatch splits;
  splits.push = bytes_of(AttentionPush{buffers_.row_words() / 4, buffers_.offset(Buffer::query) / 4, config.heads,
                                       config.kv_heads, config.heads_per_kv(), chunks, buffers_.splits_max(), op.window,
                                       config.attention_scale()});
  splits.x = config.kv_heads * chunks;
  splits.per_split = true;
  attention_ = op;
  return push_back(attention_variant(heads_here, config.head_dim, device_.tuning()), bindings, std::move(splits));
}

}  // namespace orch::worker::vulkan
