#include "worker/cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

#include "common/base/check.h"
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

// The part of `count` units that thread `index` of `threads` takes.
Range share(std::uint32_t count, std::uint32_t index, std::uint32_t threads) {
  const std::uint64_t n = count;
  return {static_cast<std::uint32_t>(n * index / threads), static_cast<std::uint32_t>(n * (index + 1) / threads)};
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
        scratch_(model_.config, kStepRowsMax, options.threads, options.context),
        pool_(options.threads) {}

  BackendInfo info() const override {
    BackendInfo info;
    info.name = kernels_.name;
    info.accelerator = "cpu";
    info.device_name = cpu_name();
    info.numeric_class = "X";
    info.pages_total = kv_.pages();
    info.weight_bytes = model_.weights.byte_size();
    info.kv_bytes = kv_.byte_size();
    info.scratch_bytes = scratch_.byte_size() + (rope_.cosine.size() + rope_.sine.size()) * sizeof(float);
    info.kv_saturated_total = kv_saturated_.load(std::memory_order_relaxed);
    return info;
  }

  std::uint32_t rows_max() const override { return kStepRowsMax; }

  Status<BackendFault> step(const StepInput& input, std::span<float> logits) override {
    prepare(input, logits);
    pool_.run([](void* self, std::uint32_t index) { static_cast<CpuBackend*>(self)->run_thread(index); }, this);
    return Ok{};
  }

  Status<BackendFault> copy_page(PageId source, PageId target) override {
    kv_.copy(source, target);
    return Ok{};
  }

 private:
  void prepare(const StepInput& input, std::span<float> logits);
  void run_thread(std::uint32_t index);
  void run_op(const Op& op, std::uint32_t index);

  void embed(const Op& op, std::uint32_t index);
  void norm_matmul(const Op& op, std::uint32_t index);
  void rope_store_kv(const Op& op, std::uint32_t index);
  void attention(const Op& op, std::uint32_t index);
  void matmul_residual(const Op& op, std::uint32_t index);
  void silu_mul(std::uint32_t index);

  void quantise_input(std::uint32_t row, const float* x, std::uint32_t cols);
  ActivationRows input_rows(std::uint32_t cols);
  void matmul(const MatmulPart& part, const ActivationRows& in, std::uint32_t rows, const float* residual, float* out,
              std::size_t stride, std::uint32_t index);
  void store_kv_row(std::uint32_t layer, std::uint32_t row);

  Model model_;
  const CpuKernels& kernels_;
  CpuBackendOptions options_;
  KvStore kv_;
  RopeTable rope_;
  StepScratch scratch_;
  ThreadPool pool_;
  std::atomic<std::uint64_t> kv_saturated_{0};

  // Of the current step; written before the threads start.
  StepInput input_;
  std::span<float> logits_;
  std::vector<std::uint32_t> wanted_;  // rows with want_logits
  std::vector<RowTile> tiles_;
};

void CpuBackend::prepare(const StepInput& input, std::span<float> logits) {
  ORCH_CHECK(!input.rows.empty() && input.rows.size() <= kStepRowsMax);
  input_ = input;
  logits_ = logits;
  wanted_.clear();
  tiles_.clear();
  const std::uint32_t tile_max = attention_rows_max(model_.config.heads_per_kv());
  for (std::uint32_t i = 0; i < input.rows.size(); ++i) {
    const Row& row = input.rows[i];
    ORCH_CHECK(row.token < model_.config.vocabulary && row.position < options_.context);
    ORCH_CHECK(row.sequence < input.page_tables.size());
    const std::vector<PageId>& pages = input.page_tables[row.sequence];
    ORCH_CHECK(row.position / kPageTokens < pages.size() && pages[row.position / kPageTokens] < kv_.pages());
    if (row.want_logits) wanted_.push_back(i);
    const bool joins = !tiles_.empty() && tiles_.back().rows < tile_max && input.rows[i - 1].sequence == row.sequence &&
                       input.rows[i - 1].position + 1 == row.position;
    if (joins) {
      ++tiles_.back().rows;
    } else {
      tiles_.push_back({i, 1});
    }
  }
  ORCH_CHECK(logits.size() == wanted_.size() * model_.config.vocabulary);
}

void CpuBackend::run_thread(std::uint32_t index) {
  const FloatState state(options_.flush_denormals);
  for (const Op& op : model_.plan.ops) run_op(op, index);
}

void CpuBackend::run_op(const Op& op, std::uint32_t index) {
  switch (op.kind) {
    case OpKind::embed:
      embed(op, index);
      break;
    case OpKind::norm_matmul:
      norm_matmul(op, index);
      break;
    case OpKind::rope_store_kv:
      rope_store_kv(op, index);
      break;
    case OpKind::attention:
      attention(op, index);
      break;
    case OpKind::matmul_residual:
      matmul_residual(op, index);
      break;
    case OpKind::silu_mul:
      silu_mul(index);
      break;
  }
  pool_.barrier();
}

void CpuBackend::embed(const Op& op, std::uint32_t index) {
  const QTensor& table = model_.weights.tensors[op.parts[0].weight];
  const Range mine = share(static_cast<std::uint32_t>(input_.rows.size()), index, pool_.size());
  for (std::uint32_t i = mine.begin; i < mine.end; ++i)
    dequantise_row(table, input_.rows[i].token, scratch_.row(op.out, i));
}

void CpuBackend::quantise_input(std::uint32_t row, const float* x, std::uint32_t cols) {
  kernels_.quantise(x, cols, scratch_.quant_row(row, cols), scratch_.dx_row(row, cols), scratch_.s_row(row, cols),
                    scratch_.sum_row(row, cols));
}

ActivationRows CpuBackend::input_rows(std::uint32_t cols) {
  ActivationRows in;
  in.cols = cols;
  in.x = scratch_.input_row(0, cols);
  in.xq = scratch_.quant_row(0, cols);
  in.dx = scratch_.dx_row(0, cols);
  in.s = scratch_.s_row(0, cols);
  in.sum = scratch_.sum_row(0, cols);
  return in;
}

void CpuBackend::matmul(const MatmulPart& part, const ActivationRows& in, std::uint32_t rows, const float* residual,
                        float* out, std::size_t stride, std::uint32_t index) {
  const QTensor& weight = model_.weights.tensors[part.weight];
  const Range groups = share(weight.row_groups(), index, pool_.size());
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

void CpuBackend::norm_matmul(const Op& op, std::uint32_t index) {
  const std::uint32_t rows = static_cast<std::uint32_t>(op.wanted_rows_only ? wanted_.size() : input_.rows.size());
  if (rows == 0) return;
  const std::uint32_t cols = static_cast<std::uint32_t>(scratch_.width(op.in));
  const float* norm = model_.weights.tensors[op.norm].plain();
  const Range mine = share(rows, index, pool_.size());
  for (std::uint32_t i = mine.begin; i < mine.end; ++i) {
    float* h = scratch_.input_row(i, cols);
    kernels_.rms_norm(scratch_.row(op.in, op.wanted_rows_only ? wanted_[i] : i), norm, cols, model_.config.rms_epsilon,
                      h);
    quantise_input(i, h, cols);
  }
  pool_.barrier();
  const ActivationRows in = input_rows(cols);
  for (const MatmulPart& part : op.parts) {
    float* out = part.out == Buffer::logits ? logits_.data() : scratch_.row(part.out, 0);
    matmul(part, in, rows, nullptr, out, scratch_.width(part.out), index);
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

void CpuBackend::rope_store_kv(const Op& op, std::uint32_t index) {
  const ModelConfig& c = model_.config;
  const RopeKernel rope = c.rope_pairing == RopePairing::adjacent ? kernels_.rope_adjacent : kernels_.rope_half;
  const Range mine = share(static_cast<std::uint32_t>(input_.rows.size()), index, pool_.size());
  for (std::uint32_t i = mine.begin; i < mine.end; ++i) {
    const std::size_t at = std::size_t{input_.rows[i].position} * rope_.pairs;
    rope(scratch_.row(Buffer::query, i), c.heads, c.head_dim, rope_.pairs, &rope_.cosine[at], &rope_.sine[at]);
    rope(scratch_.row(Buffer::key, i), c.kv_heads, c.head_dim, rope_.pairs, &rope_.cosine[at], &rope_.sine[at]);
    store_kv_row(op.layer, i);
  }
}

void CpuBackend::attention(const Op& op, std::uint32_t index) {
  const ModelConfig& c = model_.config;
  const std::uint32_t items = static_cast<std::uint32_t>(tiles_.size()) * c.kv_heads;
  AttentionArgs args;
  args.stride = c.q_width();
  args.heads = c.heads_per_kv();
  args.head_dim = c.head_dim;
  args.scale = c.attention_scale();
  args.kv_base = kv_.base();
  args.page_stride = kv_.page_stride();
  args.workspace = scratch_.workspace(index);
  for (std::uint32_t item = index; item < items; item += pool_.size()) {
    const RowTile& tile = tiles_[item / c.kv_heads];
    const std::uint32_t kv_head = item % c.kv_heads;
    const Row& first = input_.rows[tile.first];
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
}

void CpuBackend::matmul_residual(const Op& op, std::uint32_t index) {
  const std::uint32_t rows = static_cast<std::uint32_t>(input_.rows.size());
  const std::uint32_t cols = static_cast<std::uint32_t>(scratch_.width(op.in));
  const Range mine = share(rows, index, pool_.size());
  for (std::uint32_t i = mine.begin; i < mine.end; ++i) quantise_input(i, scratch_.row(op.in, i), cols);
  pool_.barrier();
  ActivationRows in = input_rows(cols);
  in.x = scratch_.row(op.in, 0);
  matmul(op.parts[0], in, rows, scratch_.row(op.residual, 0), scratch_.row(op.out, 0), scratch_.width(op.out), index);
}

void CpuBackend::silu_mul(std::uint32_t index) {
  const std::uint32_t width = model_.config.feed_forward;
  const std::uint32_t units = static_cast<std::uint32_t>(input_.rows.size()) * (width / kTileCols);
  // Units of 32 values, so that one row is shared too.
  const Range mine = share(units, index, pool_.size());
  if (mine.begin == mine.end) return;
  const std::size_t at = std::size_t{mine.begin} * kTileCols;
  kernels_.silu_mul(scratch_.row(Buffer::gate, 0) + at, scratch_.row(Buffer::up, 0) + at,
                    (mine.end - mine.begin) * kTileCols, scratch_.row(Buffer::activated, 0) + at);
}

}  // namespace

Result<std::unique_ptr<Backend>, ModelError> create_cpu_backend(Model model, const CpuKernels& kernels,
                                                                const CpuBackendOptions& options) {
  ORCH_CHECK(options.threads >= 1 && options.context >= 1 && options.pages >= 1);
  ORCH_TRY(kv, KvStore::create(model.config, options.pages));
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(std::move(model), kernels, options, std::move(kv)));
}

}  // namespace orch::worker::cpu
