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

Op matmul(std::uint32_t layer, Buffer in, TensorId weight, Buffer out, Buffer residual) {
  Op op;
  op.kind = OpKind::matmul_residual;
  op.layer = layer;
  op.in = in;
  op.out = out;
  op.residual = residual;
  op.parts = {{weight, kNoTensor, out}};
  return op;
}

// What a half of a layer adds to the residual stream: the product itself, or its norm.
void add_branch(Plan& plan, std::uint32_t layer, Buffer in, TensorId weight, TensorId post_norm) {
  if (post_norm == kNoTensor) {
    plan.ops.push_back(matmul(layer, in, weight, Buffer::residual, Buffer::residual));
    return;
  }
  plan.ops.push_back(matmul(layer, in, weight, Buffer::branch, Buffer::none));
  Op op;
  op.kind = OpKind::norm_add;
  op.layer = layer;
  op.in = Buffer::branch;
  op.out = Buffer::residual;
  op.residual = Buffer::residual;
  op.norm = post_norm;
  plan.ops.push_back(std::move(op));
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
    case Buffer::branch:
      return config.architecture.post_norms ? config.embedding : 0;
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

namespace {

void add_layer(Plan& plan, const ModelConfig& config, const LayerWeights& w, std::uint32_t layer) {
  plan.ops.push_back(norm_matmul(layer, w.attention_norm,
                                 {{w.query, w.query_bias, Buffer::query},
                                  {w.key, w.key_bias, Buffer::key},
                                  {w.value, w.value_bias, Buffer::value}}));
  Op rope = simple(OpKind::rope_store_kv, layer, Buffer::query);
  rope.query_norm = w.query_norm;
  rope.key_norm = w.key_norm;
  rope.local = config.has_window(layer);
  plan.ops.push_back(std::move(rope));
  Op attention = simple(OpKind::attention, layer, Buffer::attended);
  attention.window = config.has_window(layer) ? config.window : 0;
  plan.ops.push_back(std::move(attention));
  add_branch(plan, layer, Buffer::attended, w.attention_output, w.attention_post_norm);
  plan.ops.push_back(
      norm_matmul(layer, w.feed_forward_norm, {{w.gate, kNoTensor, Buffer::gate}, {w.up, kNoTensor, Buffer::up}}));
  const OpKind gate = config.architecture.activation == Activation::gelu ? OpKind::gelu_mul : OpKind::silu_mul;
  plan.ops.push_back(simple(gate, layer, Buffer::activated));
  add_branch(plan, layer, Buffer::activated, w.down, w.feed_forward_post_norm);
}

}  // namespace

Plan build_plan(const ModelConfig& config, const Weights& weights) {
  Plan plan;
  Op embed = simple(OpKind::embed, 0, Buffer::residual);
  embed.parts = {{weights.token_embedding, kNoTensor, Buffer::residual}};
  embed.scale = config.embedding_scale;
  plan.ops.push_back(std::move(embed));
  for (std::uint32_t i = 0; i < config.layers; ++i) add_layer(plan, config, weights.layers[i], i);
  Op head = norm_matmul(config.layers, weights.output_norm, {{weights.output, kNoTensor, Buffer::logits}});
  head.wanted_rows_only = true;
  plan.ops.push_back(std::move(head));
  return plan;
}

}  // namespace orch::worker
