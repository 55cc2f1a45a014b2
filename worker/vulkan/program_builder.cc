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
  ORCH_CHECK(!activation_ && !attention_ && !joining_);  // an operation whose result nothing reads
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

void ProgramBuilder::set_source(const MatmulInput& input, PreparePush& push) const {
  push.stride = buffers_.row_words() / 4;
  push.source = buffers_.offset(input.in) / 4;
  push.second = input.second == Buffer::none ? push.source : buffers_.offset(input.second) / 4;
  push.inverse = 1.0F / static_cast<float>(buffer_width(model_.config, input.in));
  push.eps = model_.config.rms_epsilon;
  push.head_texels = model_.config.head_dim / 4;
  push.splits_max = buffers_.splits_max();
  push.window = input.window;
}

Status<VulkanError> ProgramBuilder::add_prepare(const MatmulInput& input, const Op& op) {
  std::uint32_t outputs = 0;
  for (const MatmulPart& part : op.parts) outputs |= record_kind(weights_.tensor(part.weight).type);
  Bindings bindings;
  bindings.reads[1] =
      input.source == MatmulSource::attention_splits ? buffers_.partials().texels() : buffers_.activations().texels();
  if (input.norm != kNoTensor) {
    ORCH_TRY(norm, weights_.vector({input.norm}));
    bindings.reads[2] = norm->texels();
  }
  if (input.added_norm != kNoTensor) {
    ORCH_TRY(norm, weights_.vector({input.added_norm}));
    bindings.reads[3] = norm->texels();
    bindings.writes[2] = buffers_.activations().handle();
  }
  bindings.writes[0] = buffers_.records().handle();
  bindings.writes[1] = buffers_.floats().handle();
  PreparePush push{};
  set_source(input, push);
  push.groups = buffer_width(model_.config, input.in) / numerics::kQuantBlock;
  push.byte_base = buffers_.byte_record_base();
  push.wide_base = buffers_.wide_record_base();
  push.wanted = op.wanted_rows_only ? 1 : 0;
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  const bool row_at_once = input.source == MatmulSource::rms_norm || input.source == MatmulSource::joined_norm;
  dispatch.x = row_at_once ? 1 : lanes(push.groups);
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

Status<VulkanError> ProgramBuilder::add_matmul(const std::vector<MatmulPart>& parts, const Op& op,
                                               bool barrier_before) {
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
  push.out_offset = to_logits ? 0 : buffers_.offset(parts[0].out);
  push.residual_stride = buffers_.row_words();
  push.residual_offset = op.residual == Buffer::none ? 0 : buffers_.offset(op.residual);
  push.record_base = record_base(matrix->type);
  push.count_word = op.wanted_rows_only ? kWantedCountWord : kRowsCountWord;
  push.flags = (biases.empty() ? 0U : 1U) | (op.residual == Buffer::none ? 0U : 2U);

  const Tuning& tuning = device_.tuning();
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  dispatch.barrier_before = barrier_before;
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
  if (joining_.has_value()) {
    const Op joining = *joining_;
    joining_.reset();
    if (op.wanted_rows_only || joining.out != op.in || joining.residual != joining.out) {
      ORCH_TRY(joined, add_norm(joining));
      static_cast<void>(joined);
    } else {
      input.source = MatmulSource::joined_norm;
      input.in = joining.in;
      input.second = joining.residual;
      input.added_norm = joining.norm;
    }
  }
  ORCH_TRY(prepared, add_prepare(input, op));
  static_cast<void>(prepared);
  bool first = true;
  std::vector<MatmulPart> run;
  for (const MatmulPart& part : op.parts) {
    std::vector<MatmulPart> longer = run;
    longer.push_back(part);
    if (can_join(longer)) {
      run = std::move(longer);
      continue;
    }
    ORCH_TRY(added, add_matmul(run, op, first));
    static_cast<void>(added);
    run = {part};
    first = false;
  }
  return add_matmul(run, op, first);
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
  ORCH_TRY(prepared, add_prepare(input_of(op), op));
  static_cast<void>(prepared);
  return add_matmul(op.parts, op, true);
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
      bytes_of(NormPush{width / 4, buffers_.row_words() / 4, buffers_.offset(op.in) / 4, buffers_.offset(op.out) / 4,
                        buffers_.offset(op.residual) / 4, 1.0F / static_cast<float>(width), model_.config.rms_epsilon});
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
