#include "worker/vulkan/program_builder.h"

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
    case OpKind::norm_add: {
      NormSpans spans;
      spans.norm = op.norm;
      spans.in = op.in;
      spans.out = op.out;
      spans.residual = op.residual;
      spans.width = buffer_width(model_.config, op.in);
      return add_norm(spans);
    }
  }
  return unsupported("an operation without a Vulkan kernel");
}

Status<VulkanError> ProgramBuilder::push_back(const KernelVariant& variant, const Bindings& bindings,
                                              PlannedDispatch dispatch) {
  auto pipeline = device_.pipeline(variant);
  if (!pipeline.ok()) return Err{pipeline.error()};
  Bindings all = bindings;
  all.reads[0] = buffers_.step().words();
  // A binding that this variant of the kernel never reaches must still be valid.
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

Status<VulkanError> ProgramBuilder::add_prepare(const MatmulInput& input, const Op& op) {
  const std::uint32_t width = buffer_width(model_.config, input.in);
  const std::uint32_t groups = width / numerics::kQuantBlock;
  std::uint32_t outputs = 0;
  for (const MatmulPart& part : op.parts) outputs |= record_kind(weights_.tensor(part.weight).type);
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().texels();
  if (input.norm != kNoTensor) {
    ORCH_TRY(norm, weights_.vector({input.norm}));
    bindings.reads[2] = norm->texels();
  }
  bindings.writes[0] = buffers_.records().handle();
  bindings.writes[1] = buffers_.floats().handle();
  PreparePush push{};
  push.groups = groups;
  push.stride = buffers_.row_words() / 4;
  push.source = buffers_.offset(input.in) / 4;
  push.second = input.second == Buffer::none ? push.source : buffers_.offset(input.second) / 4;
  push.byte_base = buffers_.byte_record_base();
  push.wide_base = buffers_.wide_record_base();
  push.wanted = op.wanted_rows_only ? 1 : 0;
  push.inverse = 1.0F / static_cast<float>(width);
  push.eps = model_.config.rms_epsilon;
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  dispatch.x = input.source == MatmulSource::rms_norm ? 1 : lanes(groups);
  dispatch.y = op.wanted_rows_only ? RowRule::wanted : RowRule::rows;
  return push_back(prepare_variant(input.source, outputs), bindings, std::move(dispatch));
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

Status<VulkanError> ProgramBuilder::add_matmul(const std::vector<MatmulPart>& parts, const Op& op, bool first) {
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
  bindings.reads[4] = buffers_.activations().words();
  bindings.reads[5] = buffers_.activations().words();
  if (!biases.empty()) {
    ORCH_TRY(bias, weights_.vector(biases));
    bindings.reads[5] = bias->words();
  }
  bindings.writes[0] = to_logits ? buffers_.logits().handle() : buffers_.activations().handle();

  MatmulPush push{};
  push.blocks = matrix->blocks;
  push.rows = matrix->rows;
  push.out_stride = to_logits ? model_.config.vocabulary : buffers_.row_words();
  push.out_offset = to_logits ? 0 : buffers_.offset(parts[0].out);
  push.residual_stride = buffers_.row_words();
  push.residual_offset = op.residual == Buffer::none ? 0 : buffers_.offset(op.residual);
  push.record_base = record_base(matrix->type);
  push.count_word = op.wanted_rows_only ? kWantedCountWord : kRowsCountWord;
  push.flags = (biases.empty() ? 0U : 1U) | (op.residual == Buffer::none ? 0U : 2U);

  const Tuning& tuning = device_.tuning();
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  dispatch.barrier_before = first;
  const KernelVariant variant = matmul_variant(matrix->type, tokens_per_group_, tuning);
  if (!quantised) {
    dispatch.x = lanes(matrix->rows);
    dispatch.y = op.wanted_rows_only ? RowRule::wanted : RowRule::rows;
    return push_back(variant, bindings, std::move(dispatch));
  }
  dispatch.x = lanes((matrix->rows + tuning.rows_per_lane - 1) / tuning.rows_per_lane);
  dispatch.y = op.wanted_rows_only ? RowRule::wanted_tiles : RowRule::row_tiles;
  return push_back(variant, bindings, std::move(dispatch));
}

Status<VulkanError> ProgramBuilder::add_norm_matmul(const Op& op) {
  MatmulInput input;
  input.source = MatmulSource::rms_norm;
  input.in = op.in;
  input.norm = op.norm;
  ORCH_TRY(prepared, add_prepare(input, op));
  static_cast<void>(prepared);
  if (can_join(op.parts)) return add_matmul(op.parts, op, true);
  for (std::size_t i = 0; i < op.parts.size(); ++i) {
    ORCH_TRY(added, add_matmul({op.parts[i]}, op, i == 0));
    static_cast<void>(added);
  }
  return Ok{};
}

Status<VulkanError> ProgramBuilder::add_matmul_residual(const Op& op) {
  MatmulInput input;
  input.in = op.in;
  if (op.in == Buffer::activated) {
    ORCH_CHECK(activation_.has_value());
    input.source = *activation_;
    input.in = Buffer::gate;
    input.second = Buffer::up;
    activation_.reset();
  }
  ORCH_TRY(prepared, add_prepare(input, op));
  static_cast<void>(prepared);
  return add_matmul(op.parts, op, true);
}

Status<VulkanError> ProgramBuilder::add_norm(const NormSpans& spans) {
  if (spans.norm == kNoTensor) return Ok{};
  ORCH_TRY(norm, weights_.vector({spans.norm}));
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().texels();
  bindings.reads[2] = norm->texels();
  bindings.writes[0] = buffers_.activations().handle();
  const bool adds = spans.residual != Buffer::none;
  NormPush push{};
  push.texels = spans.width / 4;
  push.stride = buffers_.row_words() / 4;
  push.source = buffers_.offset(spans.in) / 4;
  push.target = buffers_.offset(spans.out) / 4;
  push.residual = adds ? buffers_.offset(spans.residual) / 4 : push.source;
  push.inverse = 1.0F / static_cast<float>(spans.width);
  push.eps = model_.config.rms_epsilon;
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  dispatch.x = spans.count;
  dispatch.barrier_before = spans.barrier_before;
  return push_back(norm_variant(adds), bindings, std::move(dispatch));
}

Status<VulkanError> ProgramBuilder::add_rope(const Op& op) {
  const ModelConfig& config = model_.config;
  // The norms of q and k touch different elements and run side by side.
  ORCH_TRY(query,
           add_norm({op.query_norm, Buffer::query, Buffer::query, Buffer::none, config.head_dim, config.heads, true}));
  static_cast<void>(query);
  ORCH_TRY(key, add_norm({op.key_norm, Buffer::key, Buffer::key, Buffer::none, config.head_dim, config.kv_heads,
                          op.query_norm == kNoTensor}));
  static_cast<void>(key);
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().words();
  bindings.reads[2] = buffers_.rope(op.local).words();
  bindings.writes[0] = buffers_.activations().handle();
  bindings.writes[1] = buffers_.kv(op.layer).handle();
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(RopePush{buffers_.row_words(), buffers_.offset(Buffer::query), buffers_.offset(Buffer::key),
                                    buffers_.offset(Buffer::value), config.heads, config.kv_heads, config.head_dim,
                                    config.rope_dims, buffers_.saturated_word()});
  dispatch.x = lanes((config.heads + 2 * config.kv_heads) * config.head_dim / 2);
  return push_back(rope_variant(config.rope_pairing), bindings, std::move(dispatch));
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
  ORCH_TRY(added,
           push_back(attention_variant(heads_here, config.head_dim, device_.tuning()), bindings, std::move(splits)));
  static_cast<void>(added);
  Bindings merge_bindings;
  merge_bindings.reads[1] = buffers_.partials().texels();
  merge_bindings.writes[0] = buffers_.activations().handle();
  PlannedDispatch merge;
  merge.push = bytes_of(MergePush{config.heads, config.head_dim, buffers_.splits_max(), buffers_.row_words() / 4,
                                  buffers_.offset(op.out) / 4, op.window});
  merge.x = lanes(config.heads * config.head_dim / 4);
  return push_back(merge_variant(), merge_bindings, std::move(merge));
}

}  // namespace orch::worker::vulkan
