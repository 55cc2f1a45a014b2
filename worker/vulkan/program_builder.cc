#include "worker/vulkan/program_builder.h"

#include <cstring>

#include "worker/core/numerics.h"
#include "worker/vulkan/step_layout.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kHeadsPerWorkgroupMax = 4;  // attention.comp
constexpr std::uint32_t kLeavesMax = 1024;          // prepare.comp

// Outputs of prepare.comp.
constexpr std::uint32_t kNibbleRecords = 1;
constexpr std::uint32_t kByteRecords = 2;
constexpr std::uint32_t kFloats = 4;

// The push constants of the kernels, field by field as in worker/kernels/*.comp.
struct PreparePush {
  std::uint32_t groups, stride, source, second, nibble_base, byte_base, wanted;
  float inverse, eps;
};
struct MatmulPush {
  std::uint32_t blocks, rows, out_stride, out_offset, residual_stride, residual_offset, record_base, count_word, flags;
};
struct EmbedPush {
  std::uint32_t blocks, columns, out_stride, out_offset;
};
struct RopePush {
  std::uint32_t stride, query, key, value, heads, kv_heads, dims, rope_dims, saturated;
};
struct AttentionPush {
  std::uint32_t stride, query, heads, kv_heads, heads_per_kv, chunks, splits_max;
  float scale;
};
struct MergePush {
  std::uint32_t heads, dims, splits_max, stride, attended;
};

template <typename T>
std::vector<std::byte> bytes_of(const T& push) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), &push, sizeof(T));
  return bytes;
}

std::uint32_t type_code(TensorType type) {
  switch (type) {
    case TensorType::q4_0:
      return 0;
    case TensorType::q4_1:
      return 1;
    case TensorType::q8_0:
      return 2;
    case TensorType::f16:
      return 3;
    case TensorType::f32:
      return 4;
    default:
      return 0;  // refused by build()
  }
}

std::uint32_t record_kind(TensorType type) {
  switch (type) {
    case TensorType::q4_0:
    case TensorType::q4_1:
      return kNibbleRecords;
    case TensorType::q8_0:
      return kByteRecords;
    case TensorType::f16:
    case TensorType::f32:
      return kFloats;
    default:
      return 0;  // refused by build()
  }
}

bool has_kernel(TensorType type) {
  return type == TensorType::q4_0 || type == TensorType::q4_1 || type == TensorType::q8_0 || type == TensorType::f16 ||
         type == TensorType::f32;
}

// Norms of heads, windows, a scaled embedding, gelu and norms of what is added have no kernels.
bool has_kernel(const Op& op) {
  if (op.kind == OpKind::gelu_mul || op.kind == OpKind::norm_add) return false;
  return op.query_norm == kNoTensor && op.key_norm == kNoTensor && !op.local && op.window == 0 && op.scale == 1.0F;
}

Err<VulkanError> unsupported(std::string message) {
  return Err{VulkanError{VulkanErrorKind::unsupported_model, std::move(message)}};
}

}  // namespace

Result<std::vector<PlannedDispatch>, VulkanError> ProgramBuilder::build() {
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
  for (const QTensor& tensor : model_.weights.tensors) {
    if (has_kernel(tensor.type)) continue;
    return unsupported("tensor " + tensor.name + " has type " + to_string(tensor.type) +
                       "; the Vulkan kernels take F32, F16, Q8_0, Q4_1, Q4_0");
  }
  for (const Op& op : model_.plan.ops) {
    if (!has_kernel(op)) {
      return unsupported(std::string("architecture ") + config.architecture.name +
                         " has operations without a Vulkan kernel; it runs on the CPU");
    }
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
      activated_pending_ = true;
      return Ok{};
    case OpKind::gelu_mul:
    case OpKind::norm_add:
      break;  // refused by build()
  }
  return unsupported("an operation without a Vulkan kernel");
}

Status<VulkanError> ProgramBuilder::push_back(Kernel kernel, std::vector<std::uint32_t> constants,
                                              const Bindings& bindings, PlannedDispatch dispatch) {
  auto pipeline = device_.pipeline(kernel, std::move(constants));
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
  dispatch.push = bytes_of(EmbedPush{matrix->blocks, buffer_width(model_.config, op.out), buffers_.row_words() / 4,
                                     buffers_.offset(op.out) / 4});
  dispatch.x = lanes(matrix->blocks);
  dispatch.barrier_before = false;
  return push_back(Kernel::embed, {type_code(matrix->type)}, bindings, std::move(dispatch));
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
  push.wanted = op.wanted_rows_only ? 1 : 0;
  push.inverse = 1.0F / static_cast<float>(width);
  push.eps = model_.config.rms_epsilon;
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  dispatch.x = input.source == MatmulInput::Source::rms_norm ? 1 : lanes(groups);
  dispatch.y = op.wanted_rows_only ? RowRule::wanted : RowRule::rows;
  return push_back(Kernel::prepare, {static_cast<std::uint32_t>(input.source), outputs}, bindings, std::move(dispatch));
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
  push.record_base = matrix->type == TensorType::q8_0 ? buffers_.byte_record_base() : 0;
  push.count_word = op.wanted_rows_only ? kWantedCountWord : kRowsCountWord;
  push.flags = (biases.empty() ? 0U : 1U) | (op.residual == Buffer::none ? 0U : 2U);

  const Tuning& tuning = device_.tuning();
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(push);
  dispatch.barrier_before = first;
  if (!quantised) {
    dispatch.x = lanes(matrix->rows);
    dispatch.y = op.wanted_rows_only ? RowRule::wanted : RowRule::rows;
    return push_back(Kernel::matmul_float, {matrix->type == TensorType::f16 ? 1U : 0U}, bindings, std::move(dispatch));
  }
  dispatch.x = lanes((matrix->rows + tuning.rows_per_lane - 1) / tuning.rows_per_lane);
  dispatch.y = op.wanted_rows_only ? RowRule::wanted_tiles : RowRule::row_tiles;
  return push_back(Kernel::matmul_quant,
                   {tokens_per_group_, tuning.rows_per_lane, type_code(matrix->type), tuning.shuffle}, bindings,
                   std::move(dispatch));
}

Status<VulkanError> ProgramBuilder::add_norm_matmul(const Op& op) {
  MatmulInput input;
  input.source = MatmulInput::Source::rms_norm;
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
    ORCH_CHECK(activated_pending_);
    input.source = MatmulInput::Source::silu_mul;
    input.in = Buffer::gate;
    input.second = Buffer::up;
    activated_pending_ = false;
  }
  ORCH_TRY(prepared, add_prepare(input, op));
  static_cast<void>(prepared);
  return add_matmul(op.parts, op, true);
}

Status<VulkanError> ProgramBuilder::add_rope(const Op& op) {
  const ModelConfig& config = model_.config;
  Bindings bindings;
  bindings.reads[1] = buffers_.activations().words();
  bindings.reads[2] = buffers_.rope().words();
  bindings.writes[0] = buffers_.activations().handle();
  bindings.writes[1] = buffers_.kv(op.layer).handle();
  PlannedDispatch dispatch;
  dispatch.push = bytes_of(RopePush{buffers_.row_words(), buffers_.offset(Buffer::query), buffers_.offset(Buffer::key),
                                    buffers_.offset(Buffer::value), config.heads, config.kv_heads, config.head_dim,
                                    config.rope_dims, buffers_.saturated_word()});
  dispatch.x = lanes((config.heads + 2 * config.kv_heads) * config.head_dim / 2);
  const std::uint32_t adjacent = config.rope_pairing == RopePairing::adjacent ? 1 : 0;
  return push_back(Kernel::rope_store_kv, {adjacent}, bindings, std::move(dispatch));
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
                                       config.kv_heads, config.heads_per_kv(), chunks, buffers_.splits_max(),
                                       config.attention_scale()});
  splits.x = config.kv_heads * chunks;
  splits.per_split = true;
  ORCH_TRY(added, push_back(Kernel::attention,
                            {heads_here, device_.tuning().keys_per_lane, config.head_dim, device_.tuning().shuffle},
                            bindings, std::move(splits)));
  static_cast<void>(added);
  Bindings merge_bindings;
  merge_bindings.reads[1] = buffers_.partials().texels();
  merge_bindings.writes[0] = buffers_.activations().handle();
  PlannedDispatch merge;
  merge.push = bytes_of(MergePush{config.heads, config.head_dim, buffers_.splits_max(), buffers_.row_words() / 4,
                                  buffers_.offset(op.out) / 4});
  merge.x = lanes(config.heads * config.head_dim / 4);
  return push_back(Kernel::attention_merge, {}, merge_bindings, std::move(merge));
}

}  // namespace orch::worker::vulkan
