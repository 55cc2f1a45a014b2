#include "worker/model/plan.h"

#include "worker/model/model_config.h"
#include "worker/model/weights.h"

namespace orch::worker {
namespace {

Op norm_matmul(std::uint32_t layer, TensorId norm, std::vector<MatmulPart> parts) {
  Op op;
  op.kind = OpKind::norm_matmul;
  op.layer = layer;
  op.in = Buffer::residual;
  op.norm = norm;
  op.parts = std::move(parts);
  return op;
}

Op matmul_residual(std::uint32_t layer, Buffer in, TensorId weight) {
  Op op;
  op.kind = OpKind::matmul_residual;
  op.layer = layer;
  op.in = in;
  op.out = Buffer::residual;
  op.residual = Buffer::residual;
  op.parts = {{weight, kNoTensor, Buffer::residual}};
  return op;
}

Op simple(OpKind kind, std::uint32_t layer, Buffer out) {
  Op op;
  op.kind = kind;
  op.layer = layer;
  op.out = out;
  return op;
}

}  // namespace

std::uint32_t buffer_width(const ModelConfig& config, Buffer buffer) {
  switch (buffer) {
    case Buffer::none:
      return 0;
    case Buffer::residual:
      return config.embedding;
    case Buffer::query:
    case Buffer::attended:
      return config.q_width();
    case Buffer::key:
    case Buffer::value:
      return config.kv_width();
    case Buffer::gate:
    case Buffer::up:
    case Buffer::activated:
      return config.feed_forward;
    case Buffer::logits:
      return config.vocabulary;
  }
  return 0;
}

Plan build_plan(const ModelConfig& config, const Weights& weights) {
  Plan plan;
  Op embed = simple(OpKind::embed, 0, Buffer::residual);
  embed.parts = {{weights.token_embedding, kNoTensor, Buffer::residual}};
  plan.ops.push_back(std::move(embed));
  for (std::uint32_t i = 0; i < config.layers; ++i) {
    const LayerWeights& w = weights.layers[i];
    plan.ops.push_back(norm_matmul(i, w.attention_norm,
                                   {{w.query, w.query_bias, Buffer::query},
                                    {w.key, w.key_bias, Buffer::key},
                                    {w.value, w.value_bias, Buffer::value}}));
    plan.ops.push_back(simple(OpKind::rope_store_kv, i, Buffer::query));
    plan.ops.push_back(simple(OpKind::attention, i, Buffer::attended));
    plan.ops.push_back(matmul_residual(i, Buffer::attended, w.attention_output));
    plan.ops.push_back(
        norm_matmul(i, w.feed_forward_norm, {{w.gate, kNoTensor, Buffer::gate}, {w.up, kNoTensor, Buffer::up}}));
    plan.ops.push_back(simple(OpKind::silu_mul, i, Buffer::activated));
    plan.ops.push_back(matmul_residual(i, Buffer::activated, w.down));
  }
  Op head = norm_matmul(config.layers, weights.output_norm, {{weights.output, kNoTensor, Buffer::logits}});
  head.wanted_rows_only = true;
  plan.ops.push_back(std::move(head));
  return plan;
}

}  // namespace orch::worker
