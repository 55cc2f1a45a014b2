#include "worker/cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

#include "common/base/check.h"
#include "worker/core/numerics.h"
#include "worker/cpu/float_state.h"
#include "worker/cpu/kv_store.h"
#include "worker/cpu/step_scratch.h"
#include "worker/cpu/thread_pool.h"
#include "worker/model/backend_options.h"
#include "worker/model/repack.h"

namespace orch::worker::cpu {
namespace {

struct Range {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

// Part `index` of `parts` equal ones of `count` things.
Range share(std::uint32_t count, std::uint32_t index, std::uint32_t parts) {
  const std::uint64_t n = count;
  return {static_cast<std::uint32_t>(n * index / parts), static_cast<std::uint32_t>(n * (index + 1) / parts)};
}

// Units a thread gets of an operation whose cost is even: few enough that taking them costs nothing, many enough that a
// thread that lost its core leaves most of its part to the others.
constexpr std::uint32_t kUnitsPerThread = 4;

// What the threads do between two meetings: the first or the second half of an operation.
struct Phase {
  const Op* op = nullptr;
  bool prepares = false;  // norm_matmul, matmul_residual: makes the quantised input that the second half reads
};

std::vector<Phase> phases_of(const Plan& plan) {
  std::vector<Phase> out;
  for (const Op& op : plan.ops) {
    if (op.kind == OpKind::norm_matmul || op.kind == OpKind::matmul_residual) out.push_back({&op, true});
    out.push_back({&op, false});
  }
  return out;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "cpu";
}

// Rows of one sequence whose attention is computed in one call.
struct RowTile {
  std::uint32_t first = 0;
  std::uint32_t rows = 0;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(Model model, const CpuKernels& kernels, const CpuBackendOptions& options, KvStore kv)
      : model_(std::move(model)),
        kernels_(kernels),
        options_(options),
        kv_(std::move(kv)),
        rope_(make_rope_table(model_.config, model_.weights, options.context)),
        local_rope_(make_local_rope_table(model_.config, options.context)),
        scratch_(model_.config, kStepRowsMax, options.threads, options.context),
        phases_(phases_of(model_.plan)),
        pool_(options.threads) {}

  BackendInfo info() const override {
    BackendInfo info;
    info.name = kernels_.name;
    info.accelerator = "cpu";
    info.device_name = cpu_name_;
    info.numeric_class = "X";
    info.pages_total = kv_.pages();
    info.weight_bytes = model_.weights.byte_size();
    info.kv_bytes = kv_.byte_size();
    const std::size_t rope_values = rope_.cosine.size() + local_rope_.cosine.size();
    info.scratch_bytes = scratch_.byte_size() + rope_values * 2 * sizeof(float);
    return info;
  }

  std::uint64_t kv_saturated_total() const override { return kv_saturated_.load(std::memory_order_relaxed); }

  std::uint32_t rows_max() const override { return kStepRowsMax; }

  Status<BackendFault> step(const StepInput& input, const StepOutput& out) override {
    prepare(input, out);
    pool_.run(
        {.context = this,
         .phases = static_cast<std::uint32_t>(phases_.size()),
         .units = [](void* self, std::uint32_t phase) { return static_cast<const CpuBackend*>(self)->units(phase); },
         .unit = [](void* self, std::uint32_t phase, std::uint32_t unit,
                    std::uint32_t thread) { static_cast<CpuBackend*>(self)->run_unit(phase, unit, thread); }});
    write_hidden(out.hidden);
    return Ok{};
  }

  Status<BackendFault> copy_page(PageId source, PageId target) override {
    kv_.copy(source, target);
    return Ok{};
  }

 private:
  void prepare(const StepInput& input, const StepOutput& out);
  void write_hidden(std::span<float> hidden);
  std::uint32_t units(std::uint32_t phase) const;
  void run_unit(std::uint32_t phase, std::uint32_t unit, std::uint32_t thread);

  std::uint32_t even_units(std::uint32_t things) const { return std::min(things, pool_.size() * kUnitsPerThread); }
  std::uint32_t rows_of(const Op& op) const;
  std::uint32_t groups_of(const Op& op) const;
  std::uint32_t gate_tiles() const;

  // Each computes one unit.
  void embed(const Op& op, std::uint32_t row);
  void norm_quantise(const Op& op, std::uint32_t row);
  void matmul_parts(const Op& op, std::uint32_t unit);
  void rope_store_kv(const Op& op, std::uint32_t row);
  void attention(const Op& op, std::uint32_t item, std::uint32_t thread);
  void quantise(const Op& op, std::uint32_t row);
  void matmul_residual(const Op& op, std::uint32_t unit);
  void activate(void (*gate_mul)(const float*, const float*, std::uint32_t, float*), std::uint32_t unit);
  void norm_add(const Op& op, std::uint32_t row);

  void quantise_input(const Op& op, std::uint32_t row, const float* x, std::uint32_t cols);
  ActivationRows input_rows(std::uint32_t cols);
  void matmul(const MatmulPart& part, const ActivationRows& in, std::uint32_t rows, const float* residual, float* out,
              std::size_t stride, Range groups);
  void norm_heads(TensorId norm, std::uint32_t heads, float* x);
  void store_kv_row(std::uint32_t layer, std::uint32_t row);

  Model model_;
  const CpuKernels& kernels_;
  CpuBackendOptions options_;
  KvStore kv_;
  RopeTable rope_;
  RopeTable local_rope_;
  StepScratch scratch_;
  const std::vector<Phase> phases_;  // of model_.plan
  const std::string cpu_name_ = cpu_name();
  ThreadPool pool_;
  std::atomic<std::uint64_t> kv_saturated_{0};

  // Of the current step; written before the threads start.
  StepInput input_;
  std::span<float> logits_;
  std::vector<std::uint32_t> wanted_;  // rows with want_logits
  std::vector<std::uint32_t> hidden_;  // rows with want_hidden
  std::vector<RowTile> tiles_;
};

void CpuBackend::prepare(const StepInput& input, const StepOutput& out) {
  ORCH_CHECK(!input.rows.empty() && input.rows.size() <= kStepRowsMax);
  input_ = input;
  logits_ = out.logits;
  wanted_.clear();
  hidden_.clear();
  tiles_.clear();
  const std::uint32_t tile_max = attention_rows_max(model_.config.heads_per_kv());
  for (std::uint32_t i = 0; i < input.rows.size(); ++i) {
    const Row& row = input.rows[i];
    ORCH_CHECK(row.token < model_.config.vocabulary && row.position < options_.context);
    ORCH_CHECK(row.sequence < input.page_tables.size());
    const std::vector<PageId>& pages = input.page_tables[row.sequence];
    ORCH_CHECK(row.position / kPageTokens < pages.size() && pages[row.position / kPageTokens] < kv_.pages());
    if (row.want_logits) wanted_.push_back(i);
    if (row.want_hidden) hidden_.push_back(i);
    const bool joins = !tiles_.empty() && tiles_.back().rows < tile_max && input.rows[i - 1].sequence == row.sequence &&
                       input.rows[i - 1].position + 1 == row.position;
    if (joins) {
      ++tiles_.back().rows;
    } else {
      tiles_.push_back({i, 1});
    }
  }
  ORCH_CHECK(out.logits.size() == wanted_.size() * model_.config.vocabulary);
  ORCH_CHECK(out.hidden.size() == hidden_.size() * model_.config.embedding);
}

// What norm_matmul of the head makes of a row, before it is quantised. A row's norm costs nothing beside its step, so
// that one thread makes them all.
void CpuBackend::write_hidden(std::span<float> hidden) {
  const FloatState state(options_.flush_denormals);
  const std::uint32_t width = model_.config.embedding;
  for (std::size_t i = 0; i < hidden_.size(); ++i) {
    kernels_.rms_norm(scratch_.row(Buffer::residual, hidden_[i]),
                      model_.weights.tensors[model_.weights.output_norm].plain(), width, model_.config.rms_epsilon,
                      hidden.data() + i * width);
  }
}

std::uint32_t CpuBackend::rows_of(const Op& op) const {
  return static_cast<std::uint32_t>(op.wanted_rows_only ? wanted_.size() : input_.rows.size());
}

std::uint32_t CpuBackend::groups_of(const Op& op) const {
  std::uint32_t groups = 0;
  for (const MatmulPart& part : op.parts) groups += model_.weights.tensors[part.weight].row_groups();
  return groups;
}

std::uint32_t CpuBackend::gate_tiles() const {
  return static_cast<std::uint32_t>(input_.rows.size()) * (model_.config.feed_forward / kTileCols);
}

std::uint32_t CpuBackend::units(std::uint32_t phase) const {
  const Op& op = *phases_[phase].op;
  if (phases_[phase].prepares) return rows_of(op);
  switch (op.kind) {
    case OpKind::embed:
    case OpKind::rope_store_kv:
      return rows_of(op);
    case OpKind::norm_matmul:
    case OpKind::matmul_residual:
      return rows_of(op) == 0 ? 0 : even_units(groups_of(op));
    case OpKind::attention:
      return static_cast<std::uint32_t>(tiles_.size()) * model_.config.kv_heads;
    case OpKind::silu_mul:
    case OpKind::gelu_mul:
      return even_units(gate_tiles());
    case OpKind::norm_add:
      return rows_of(op);
  }
  return 0;
}

void CpuBackend::run_unit(std::uint32_t phase, std::uint32_t unit, std::uint32_t thread) {
  const FloatState state(options_.flush_denormals);
  const Op& op = *phases_[phase].op;
  const bool prepares = phases_[phase].prepares;
  switch (op.kind) {
    case OpKind::embed:
      return embed(op, unit);
    case OpKind::norm_matmul:
      return prepares ? norm_quantise(op, unit) : matmul_parts(op, unit);
    case OpKind::rope_store_kv:
      return rope_store_kv(op, unit);
    case OpKind::attention:
      return attention(op, unit, thread);
    case OpKind::matmul_residual:
      return prepares ? quantise(op, unit) : matmul_residual(op, unit);
    case OpKind::silu_mul:
      return activate(kernels_.silu_mul, unit);
    case OpKind::gelu_mul:
      return activate(kernels_.gelu_mul, unit);
    case OpKind::norm_add:
      return norm_add(op, unit);
  }
}

void CpuBackend::embed(const Op& op, std::uint32_t row) {
  const QTensor& table = model_.weights.tensors[op.parts[0].weight];
  float* out = scratch_.row(op.out, row);
  dequantise_row(table, input_.rows[row].token, out);
  if (op.scale == 1.0F) return;
  for (std::uint32_t i = 0; i < table.cols; ++i) out[i] = numerics::store(out[i] * op.scale);
}

// Activation groups follow the weights' types; parts of mixed types get both forms.
void CpuBackend::quantise_input(const Op& op, std::uint32_t row, const float* x, std::uint32_t cols) {
  bool narrow = false;
  bool wide = false;
  for (const MatmulPart& part : op.parts) {
    const TensorType type = model_.weights.tensors[part.weight].type;
    wide = wide || is_wide(type);
    narrow = narrow || (is_quantised(type) && !is_wide(type));
  }
  if (narrow) {
    kernels_.quantise(x, cols, scratch_.quant_row(row, cols), scratch_.dx_row(row, cols), scratch_.s_row(row, cols),
                      scratch_.sum_row(row, cols));
  }
  if (!wide) return;
  const WideInput to = scratch_.wide_row(row, cols);
  kernels_.quantise_wide(x, cols, to.xq, to.dx, to.sum16, to.sum32);
}

ActivationRows CpuBackend::input_rows(std::uint32_t cols) {
  ActivationRows in;
  in.cols = cols;
  in.x = scratch_.input_row(0, cols);
  in.xq = scratch_.quant_row(0, cols);
  in.dx = scratch_.dx_row(0, cols);
  in.s = scratch_.s_row(0, cols);
  in.sum = scratch_.sum_row(0, cols);
  const WideInput wide = scratch_.wide_row(0, cols);
  in.wide = {wide.xq, wide.dx, wide.sum16, wide.sum32};
  return in;
}

void CpuBackend::matmul(const MatmulPart& part, const ActivationRows& in, std::uint32_t rows, const float* residual,
                        float* out, std::size_t stride, Range groups) {
  const QTensor& weight = model_.weights.tensors[part.weight];
  MatmulArgs args;
  args.weight = &weight;
  args.bias = part.bias == kNoTensor ? nullptr : model_.weights.tensors[part.bias].plain();
  args.residual = residual;
  args.out = out;
  args.out_stride = stride;
  args.in = in;
  args.rows = rows;
  args.group_begin = groups.begin;
  args.group_end = groups.end;
  kernels_.matmul(args);
}

void CpuBackend::norm_quantise(const Op& op, std::uint32_t row) {
  const std::uint32_t cols = static_cast<std::uint32_t>(scratch_.width(op.in));
  float* h = scratch_.input_row(row, cols);
  kernels_.rms_norm(scratch_.row(op.in, op.wanted_rows_only ? wanted_[row] : row),
                    model_.weights.tensors[op.norm].plain(), cols, model_.config.rms_epsilon, h);
  quantise_input(op, row, h, cols);
}

// The parts share one input; a unit is a share of all their row groups together.
void CpuBackend::matmul_parts(const Op& op, std::uint32_t unit) {
  const std::uint32_t all = groups_of(op);
  const Range mine = share(all, unit, even_units(all));
  const ActivationRows in = input_rows(static_cast<std::uint32_t>(scratch_.width(op.in)));
  std::uint32_t first = 0;  // of the part
  for (const MatmulPart& part : op.parts) {
    const std::uint32_t groups = model_.weights.tensors[part.weight].row_groups();
    const Range within{std::max(mine.begin, first) - first, std::min(mine.end, first + groups) - first};
    if (mine.begin < first + groups && mine.end > first) {
      float* out = part.out == Buffer::logits ? logits_.data() : scratch_.row(part.out, 0);
      matmul(part, in, rows_of(op), nullptr, out, scratch_.width(part.out), within);
    }
    first += groups;
  }
}

void CpuBackend::store_kv_row(std::uint32_t layer, std::uint32_t row) {
  const ModelConfig& c = model_.config;
  const Row& at = input_.rows[row];
  std::uint16_t* page = kv_.page(input_.page_tables[at.sequence][at.position / kPageTokens]);
  const std::uint32_t slot = at.position % kPageTokens;
  std::uint64_t saturated = 0;
  for (std::uint32_t head = 0; head < c.kv_heads; ++head) {
    const float* k = scratch_.row(Buffer::key, row) + std::size_t{head} * c.head_dim;
    const float* v = scratch_.row(Buffer::value, row) + std::size_t{head} * c.head_dim;
    std::uint16_t* keys = page + kv_.key_offset(layer, head);
    for (std::uint32_t d = 0; d < c.head_dim; d += 8) {
      saturated += kernels_.narrow(k + d, 8, keys + (std::size_t{d / 8} * kPageTokens + slot) * 8);
    }
    saturated += kernels_.narrow(v, c.head_dim, page + kv_.value_offset(layer, head) + std::size_t{slot} * c.head_dim);
  }
  if (saturated != 0) kv_saturated_.fetch_add(saturated, std::memory_order_relaxed);
}

// In place; nothing when the model has no such norm.
void CpuBackend::norm_heads(TensorId norm, std::uint32_t heads, float* x) {
  if (norm == kNoTensor) return;
  const std::uint32_t head_dim = model_.config.head_dim;
  for (std::uint32_t head = 0; head < heads; ++head, x += head_dim) {
    kernels_.rms_norm(x, model_.weights.tensors[norm].plain(), head_dim, model_.config.rms_epsilon, x);
  }
}

void CpuBackend::rope_store_kv(const Op& op, std::uint32_t row) {
  const ModelConfig& c = model_.config;
  const RopeKernel rope = c.rope_pairing == RopePairing::adjacent ? kernels_.rope_adjacent : kernels_.rope_half;
  const RopeTable& table = op.local ? local_rope_ : rope_;
  const std::size_t at = std::size_t{input_.rows[row].position} * table.pairs;
  float* query = scratch_.row(Buffer::query, row);
  float* key = scratch_.row(Buffer::key, row);
  norm_heads(op.query_norm, c.heads, query);
  norm_heads(op.key_norm, c.kv_heads, key);
  rope(query, c.heads, c.head_dim, table.pairs, &table.cosine[at], &table.sine[at]);
  rope(key, c.kv_heads, c.head_dim, table.pairs, &table.cosine[at], &table.sine[at]);
  store_kv_row(op.layer, row);
}

void CpuBackend::attention(const Op& op, std::uint32_t item, std::uint32_t thread) {
  const ModelConfig& c = model_.config;
  const RowTile& tile = tiles_[item / c.kv_heads];
  const std::uint32_t kv_head = item % c.kv_heads;
  const Row& first = input_.rows[tile.first];
  AttentionArgs args;
  args.stride = c.q_width();
  args.heads = c.heads_per_kv();
  args.head_dim = c.head_dim;
  args.scale = c.attention_scale();
  args.window = op.window;
  args.kv_base = kv_.base();
  args.page_stride = kv_.page_stride();
  args.workspace = scratch_.workspace(thread);
  const std::size_t offset = std::size_t{kv_head} * args.heads * c.head_dim;
  args.query = scratch_.row(Buffer::query, tile.first) + offset;
  args.out = scratch_.row(op.out, tile.first) + offset;
  args.rows = tile.rows;
  args.first_position = first.position;
  args.key_offset = kv_.key_offset(op.layer, kv_head);
  args.value_offset = kv_.value_offset(op.layer, kv_head);
  args.pages = input_.page_tables[first.sequence];
  kernels_.attention(args);
}

void CpuBackend::quantise(const Op& op, std::uint32_t row) {
  quantise_input(op, row, scratch_.row(op.in, row), static_cast<std::uint32_t>(scratch_.width(op.in)));
}

void CpuBackend::matmul_residual(const Op& op, std::uint32_t unit) {
  ActivationRows in = input_rows(static_cast<std::uint32_t>(scratch_.width(op.in)));
  in.x = scratch_.row(op.in, 0);
  const std::uint32_t all = groups_of(op);
  const float* residual = op.residual == Buffer::none ? nullptr : scratch_.row(op.residual, 0);
  matmul(op.parts[0], in, rows_of(op), residual, scratch_.row(op.out, 0), scratch_.width(op.out),
         share(all, unit, even_units(all)));
}

// Units are tiles of 32 values, so that one row is shared too.
void CpuBackend::activate(void (*gate_mul)(const float*, const float*, std::uint32_t, float*), std::uint32_t unit) {
  const std::uint32_t all = gate_tiles();
  const Range mine = share(all, unit, even_units(all));
  const std::size_t at = std::size_t{mine.begin} * kTileCols;
  gate_mul(scratch_.row(Buffer::gate, 0) + at, scratch_.row(Buffer::up, 0) + at, (mine.end - mine.begin) * kTileCols,
           scratch_.row(Buffer::activated, 0) + at);
}

void CpuBackend::norm_add(const Op& op, std::uint32_t row) {
  const std::uint32_t width = static_cast<std::uint32_t>(scratch_.width(op.in));
  float* normed = scratch_.input_row(row, width);
  kernels_.rms_norm(scratch_.row(op.in, row), model_.weights.tensors[op.norm].plain(), width, model_.config.rms_epsilon,
                    normed);
  const float* residual = scratch_.row(op.residual, row);
  float* out = scratch_.row(op.out, row);
  for (std::uint32_t i = 0; i < width; ++i) out[i] = numerics::store(normed[i] + residual[i]);
}

}  // namespace

Result<std::unique_ptr<Backend>, ModelError> create_cpu_backend(Model model, const CpuKernels& kernels,
                                                                const CpuBackendOptions& options) {
  ORCH_CHECK(options.threads >= 1 && options.context >= 1 && options.pages >= 1);
  ORCH_TRY(kv, KvStore::create(model.config, options.pages));
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(std::move(model), kernels, options, std::move(kv)));
}

}  // namespace orch::worker::cpu
