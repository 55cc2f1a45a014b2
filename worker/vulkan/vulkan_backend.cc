#include "worker/vulkan/vulkan_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>

#include "worker/core/numerics.h"
#include "worker/vulkan/self_test.h"
#include "worker/vulkan/step_layout.h"
#include "worker/vulkan/step_program.h"
#include "worker/vulkan/vulkan_backend_parts.h"

namespace orch::worker {
namespace vulkan {
namespace {

BackendFaultKind kind_of(VulkanErrorKind kind) {
  if (kind == VulkanErrorKind::device_lost) return BackendFaultKind::device_lost;
  return kind == VulkanErrorKind::out_of_memory ? BackendFaultKind::out_of_memory : BackendFaultKind::broken;
}

// Of the text by which forms are compared.
constexpr std::uint64_t kTokenStride = 7919;
constexpr std::uint32_t kDistinctPages = 4;

StepShape shape_of(const Model& model, const VulkanBackendOptions& options) {
  StepShape shape{options.context, options.pages, 0, false};
  for (const QTensor& tensor : model.weights.tensors) {
    if (tensor.layout != TensorLayout::tiled) continue;
    shape.columns_max = std::max(shape.columns_max, tensor.cols);
    shape.wide_records = shape.wide_records || is_wide(tensor.type);
  }
  return shape;
}

class VulkanBackend final : public Backend {
 public:
  VulkanBackend(Model model, std::unique_ptr<KernelDevice> device)
      : model_(std::move(model)), device_(std::move(device)) {}

  Status<VulkanError> open(const VulkanBackendOptions& options);

  BackendInfo info() const override;
  std::uint64_t kv_saturated_total() const override { return kv_saturated_.load(std::memory_order_relaxed); }
  std::uint32_t rows_max() const override { return kStepRowsMax; }
  Status<BackendFault> step(const StepInput& input, const StepOutput& out) override;
  Status<BackendFault> copy_page(PageId source, PageId target) override;

 private:
  Status<VulkanError> record(ProgramForm form);
  Status<VulkanError> forms_agree();
  StepProgram& plain_program() { return *programs_.at({kTileTokens.back(), OwnInputs::none}); }
  // Of a text whose positions lie in those pages. Empty logits: no row wants any.
  Status<VulkanError> run_text(StepProgram& program, StepRows step, std::vector<PageId> pages,
                               std::span<std::uint32_t> logits);
  // Of those steps, one after the other, behind a few pages of keys that the plain program has made.
  Result<std::vector<std::uint32_t>, VulkanError> compared_logits(StepProgram& program,
                                                                  const std::vector<StepRows>& steps);
  // How much of a step's output is written.
  struct Done {
    std::size_t logits = 0;
    std::size_t hidden = 0;
  };
  // One submission: rows `first` .. `first + count` of the input; appends to the output behind `done`.
  Status<VulkanError> submit(const StepInput& input, std::size_t first, std::size_t count, const StepOutput& out,
                             Done& done);
  Status<VulkanError> read_hidden(std::span<const Row> rows, std::span<float> hidden, std::size_t& done);
  StepCounts fill_step(const StepInput& input, std::size_t first, std::size_t count);
  Status<BackendFault> settle(Status<VulkanError> result);

  Model model_;
  std::unique_ptr<KernelDevice> device_;
  std::unique_ptr<WeightStore> weights_;
  std::unique_ptr<StepBuffers> buffers_;
  std::map<ProgramForm, std::unique_ptr<StepProgram>> programs_;
  std::unique_ptr<CommandRecorder> copier_;
  std::vector<float> output_norm_;  // for the rows whose hidden state is wanted: the host norms them
  std::uint32_t context_ = 0;
  std::atomic<std::uint64_t> kv_saturated_{0};  // may be asked for from another thread
  std::optional<BackendFault> fault_;           // why the device is of no more use; none: it works
};

Status<VulkanError> VulkanBackend::open(const VulkanBackendOptions& options) {
  context_ = options.context;
  weights_ = std::make_unique<WeightStore>(*device_, model_.weights);
  auto buffers = StepBuffers::Create(*device_, model_.config, model_.weights, shape_of(model_, options));
  if (!buffers.ok()) return Err{buffers.error()};
  buffers_ = std::move(buffers).value();
  auto copier = device_->make_recorder();
  if (!copier.ok()) return Err{copier.error()};
  copier_ = std::move(copier).value();
  for (const ProgramForm form : every_form(device_->tuning().own_inputs, buffers_->splits_max())) {
    ORCH_TRY(recorded, record(form));
    static_cast<void>(recorded);
  }
  ORCH_TRY(agreed, forms_agree());
  static_cast<void>(agreed);
  device_->keep_pipelines();
  const float* norm = model_.weights.tensors[model_.weights.output_norm].plain();
  output_norm_.assign(norm, norm + model_.config.embedding);
  weights_->release_host_copies();
  return Ok{};
}

Status<VulkanError> VulkanBackend::record(ProgramForm form) {
  auto made = StepProgram::Create(*device_, *weights_, *buffers_, model_, form);
  if (!made.ok()) return Err{made.error()};
  programs_[form] = std::move(made).value();
  return Ok{};
}

Status<VulkanError> VulkanBackend::run_text(StepProgram& program, StepRows step, std::vector<PageId> pages,
                                            std::span<std::uint32_t> logits) {
  std::vector<Row> rows;
  for (std::uint32_t at = step.first; at < step.first + step.rows; ++at) {
    const std::uint64_t token = (at + 1) * kTokenStride % model_.config.vocabulary;
    rows.push_back({static_cast<std::uint32_t>(token), at, 0, !logits.empty()});
  }
  const std::vector<std::vector<PageId>> tables{std::move(pages)};
  ORCH_TRY(ran, program.run(fill_step({rows, tables}, 0, rows.size())));
  static_cast<void>(ran);
  if (logits.empty()) return Ok{};
  return device_->read(buffers_->logits(), 0, std::as_writable_bytes(logits));
}

Result<std::vector<std::uint32_t>, VulkanError> VulkanBackend::compared_logits(StepProgram& program,
                                                                               const std::vector<StepRows>& steps) {
  const std::uint32_t distinct = std::min(kDistinctPages, buffers_->pages());
  const std::uint32_t text = std::min(context_, distinct * kPageTokens);
  std::vector<PageId> pages(distinct);
  std::iota(pages.begin(), pages.end(), 0U);
  for (std::uint32_t at = 0; at < text; at += buffers_->rows_max()) {
    ORCH_TRY(filled, run_text(plain_program(), {at, std::min(buffers_->rows_max(), text - at)}, pages, {}));
    static_cast<void>(filled);
  }
  std::vector<std::uint32_t> logits;
  for (const StepRows& step : steps) {
    const std::size_t done = logits.size();
    logits.resize(done + std::size_t{step.rows} * model_.config.vocabulary);
    // Each split of attention has a page of its own, again and again: a long text need not be fed.
    pages.assign((step.first + step.rows) / kPageTokens + 1, 0);
    for (std::uint32_t i = 0; i < pages.size(); ++i) {
      pages[i] = i / (numerics::kAttentionSplit / kPageTokens) % distinct;
    }
    ORCH_TRY(ran, run_text(program, step, pages, std::span(logits).subspan(done)));
    static_cast<void>(ran);
  }
  return logits;
}

// OC-DEVICE-1006: matmuls that make their inputs answer to the dispatches that make them, before the device serves.
Status<VulkanError> VulkanBackend::forms_agree() {
  if (device_->tuning().own_inputs.rows == 0) return Ok{};
  for (const auto& [form, own] : programs_) {
    if (form.own == OwnInputs::none) continue;
    std::vector<StepRows> steps = compared_steps(form, device_->tuning().own_inputs, context_);
    for (StepRows& step : steps) step.rows = std::min(step.rows, buffers_->rows_max());
    ORCH_TRY(want, compared_logits(plain_program(), steps));
    ORCH_TRY(got, compared_logits(*own, steps));
    if (got == want) continue;
    return Err{VulkanError{VulkanErrorKind::self_test, device_->facts().entry.name +
                                                           " failed the class-X self-test: steps of " +
                                                           std::to_string(form.tile_tokens) +
                                                           " rows whose matmuls make their inputs give other bytes"}};
  }
  // What the steps above counted is no step's.
  const std::uint32_t zero = 0;
  return device_->write(buffers_->activations(), std::uint64_t{buffers_->saturated_word()} * sizeof(zero),
                        std::as_bytes(std::span(&zero, 1)));
}

BackendInfo VulkanBackend::info() const {
  BackendInfo info;
  info.name = "vulkan";
  info.accelerator = device_->facts().entry.software ? "software-vulkan" : "vulkan";
  info.device_name = device_->facts().entry.name;
  info.numeric_class = "X";
  info.pages_total = buffers_->pages();
  info.weight_bytes = weights_->bytes();
  info.kv_bytes = buffers_->kv_bytes();
  info.scratch_bytes = buffers_->scratch_bytes();
  return info;
}

StepCounts VulkanBackend::fill_step(const StepInput& input, std::size_t first, std::size_t count) {
  std::vector<std::uint32_t> words(kTablesWord, 0);
  StepCounts counts;
  counts.rows = static_cast<std::uint32_t>(count);
  SequenceIndex sequence = 0;
  std::uint32_t table = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Row& row = input.rows[first + i];
    if (i == 0 || row.sequence != sequence) {
      sequence = row.sequence;
      ORCH_CHECK(sequence < input.page_tables.size());
      const std::vector<PageId>& pages = input.page_tables[sequence];
      table = static_cast<std::uint32_t>(words.size());
      const std::size_t used =
          std::min<std::size_t>(pages.size(), (std::size_t{context_} + kPageTokens - 1) / kPageTokens);
      words.insert(words.end(), pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(used));
    }
    ORCH_CHECK(row.token < model_.config.vocabulary && row.position < context_);
    ORCH_CHECK(table + row.position / kPageTokens < words.size());
    const std::size_t at = kRowsWord + 4 * i;
    words[at] = row.token;
    words[at + 1] = row.position;
    words[at + 2] = table;
    if (row.want_logits) words[kWantedWord + counts.wanted++] = static_cast<std::uint32_t>(i);
    counts.splits = std::max(counts.splits, row.position / numerics::kAttentionSplit + 1);
  }
  for (std::size_t i = kTablesWord; i < words.size(); ++i) ORCH_CHECK(words[i] < buffers_->pages());
  words[kRowsCountWord] = counts.rows;
  words[kWantedCountWord] = counts.wanted;
  ORCH_CHECK(words.size() * sizeof(std::uint32_t) <= buffers_->step().size());
  std::copy(words.begin(), words.end(), reinterpret_cast<std::uint32_t*>(buffers_->step().mapped()));
  return counts;
}

Status<VulkanError> VulkanBackend::submit(const StepInput& input, std::size_t first, std::size_t count,
                                          const StepOutput& out, Done& done) {
  const StepCounts counts = fill_step(input, first, count);
  const auto chosen = programs_.find(form_for(counts.rows, counts.splits, device_->tuning().own_inputs));
  ORCH_CHECK(chosen != programs_.end());
  ORCH_TRY(ran, chosen->second->run(counts));
  static_cast<void>(ran);
  const std::size_t floats = std::size_t{counts.wanted} * model_.config.vocabulary;
  ORCH_CHECK(done.logits + floats <= out.logits.size());
  ORCH_TRY(read, device_->read(buffers_->logits(), 0, std::as_writable_bytes(out.logits.subspan(done.logits, floats))));
  static_cast<void>(read);
  done.logits += floats;
  ORCH_TRY(hidden, read_hidden(input.rows.subspan(first, count), out.hidden, done.hidden));
  static_cast<void>(hidden);
  std::uint32_t saturated = 0;
  const std::uint64_t at = std::uint64_t{buffers_->saturated_word()} * sizeof(saturated);
  ORCH_TRY(counted, device_->read(buffers_->activations(), at, std::as_writable_bytes(std::span(&saturated, 1))));
  static_cast<void>(counted);
  // The device counts modulo 2^32; a step adds less than that.
  kv_saturated_.fetch_add(saturated - static_cast<std::uint32_t>(kv_saturated_.load(std::memory_order_relaxed)),
                          std::memory_order_relaxed);
  return Ok{};
}

// The residual stream behind the last layer; the contract's norm makes the same bytes on the host.
Status<VulkanError> VulkanBackend::read_hidden(std::span<const Row> rows, std::span<float> hidden, std::size_t& done) {
  const std::size_t width = model_.config.embedding;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].want_hidden) continue;
    ORCH_CHECK(done + width <= hidden.size());
    const std::span<float> row = hidden.subspan(done, width);
    const std::uint64_t word = std::uint64_t{i} * buffers_->row_words() + buffers_->offset(Buffer::residual);
    ORCH_TRY(read, device_->read(buffers_->activations(), word * sizeof(float), std::as_writable_bytes(row)));
    static_cast<void>(read);
    numerics::rms_norm(row.data(), output_norm_.data(), width, model_.config.rms_epsilon, row.data());
    done += width;
  }
  return Ok{};
}

Status<BackendFault> VulkanBackend::settle(Status<VulkanError> result) {
  if (result.ok()) return Ok{};
  fault_ = BackendFault{kind_of(result.error().kind), result.error().message};
  return Err{*fault_};
}

Status<BackendFault> VulkanBackend::step(const StepInput& input, const StepOutput& out) {
  ORCH_CHECK(!input.rows.empty() && input.rows.size() <= kStepRowsMax);
  if (fault_) return Err{*fault_};
  Done done;
  for (std::size_t first = 0; first < input.rows.size(); first += buffers_->rows_max()) {
    const std::size_t count = std::min<std::size_t>(buffers_->rows_max(), input.rows.size() - first);
    auto settled = settle(submit(input, first, count, out, done));
    if (!settled.ok()) return settled;
  }
  ORCH_CHECK(done.logits == out.logits.size() && done.hidden == out.hidden.size());
  return Ok{};
}

Status<BackendFault> VulkanBackend::copy_page(PageId source, PageId target) {
  ORCH_CHECK(source < buffers_->pages() && target < buffers_->pages());
  if (fault_) return Err{*fault_};
  auto begun = settle(copier_->begin());
  if (!begun.ok()) return begun;
  copier_->barrier();  // what a step wrote there is not visible to a later submission because its fence was waited for
  const std::uint64_t bytes = buffers_->page_layer_bytes();
  for (std::uint32_t layer = 0; layer < model_.config.layers; ++layer) {
    DeviceBuffer& kv = buffers_->kv(layer);
    if (source != target) copier_->copy(kv, source * bytes, kv, target * bytes, bytes);
  }
  copier_->barrier();
  auto ended = settle(copier_->end());
  if (!ended.ok()) return ended;
  return settle(device_->run(*copier_));
}

}  // namespace

Result<std::unique_ptr<Backend>, VulkanError> create_backend_on(Model model, std::unique_ptr<KernelDevice> device,
                                                                const VulkanBackendOptions& options) {
  ORCH_TRY(tested, self_test(*device));
  static_cast<void>(tested);
  auto backend = std::make_unique<VulkanBackend>(std::move(model), std::move(device));
  ORCH_TRY(opened, backend->open(options));
  static_cast<void>(opened);
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace vulkan

std::string pipeline_cache_directory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/llama-orch/pipelines";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') return std::string(home) + "/.cache/llama-orch/pipelines";
  return {};
}

Result<std::unique_ptr<Backend>, VulkanError> create_vulkan_backend(Model model, const VulkanBackendOptions& options) {
  vulkan::KernelDeviceOptions device_options;
  device_options.device = options.device;
  device_options.pipeline_cache_directory = options.pipeline_cache_directory;
  device_options.own_inputs = options.own_inputs;
  auto device = vulkan::KernelDevice::Create(device_options);
  if (!device.ok()) return Err{device.error()};
  return vulkan::create_backend_on(std::move(model), std::move(device).value(), options);
}

}  // namespace orch::worker
