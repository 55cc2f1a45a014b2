#include "determinism/traffic.h"

#include <algorithm>
#include <utility>

#include "common/base/prng.h"
#include "worker/core/batch_fixture.h"
#include "worker/core/generation_batch.h"
#include "worker/cpu/cpu_backend.h"
#ifdef ORCH_VULKAN
#include "worker/vulkan/vulkan_backend.h"
#endif

namespace orch::determinism {

using worker::Backend;
using worker::BatchEvent;
using worker::GenerationBatch;
using worker::SequenceRequest;

namespace {

const worker::cpu::CpuKernels& kernels_of(Device device) {
  const worker::cpu::CpuKernels* wanted = device == Device::avx2         ? worker::cpu::avx2_kernels()
                                          : device == Device::avx512vnni ? worker::cpu::avx512vnni_kernels()
                                                                         : nullptr;
#ifdef ORCH_EMULATED
  // Bochs 2.7 rounds 2^-25 wrongly with VCVTPS2PH (worker/cpu/kernels_fixture.h).
  static worker::cpu::CpuKernels right;  // one backend at a time
  if (wanted != nullptr) {
    right = *wanted;
    right.narrow = worker::cpu::scalar_kernels().narrow;
    return right;
  }
#endif
  return wanted != nullptr ? *wanted : worker::cpu::scalar_kernels();
}

}  // namespace

Result<std::unique_ptr<Backend>, std::string> make_backend(const Case& of, const Cell& cell) {
  auto loaded = of.file != nullptr ? of.file->load(cell.threads)
                                   : Result<worker::Model, std::string>(worker::testing::tiny_model(of.shape));
  if (!loaded.ok()) return Err{loaded.error()};
  worker::Model model = std::move(loaded).value();
  if (cell.device == Device::vulkan) {
#ifdef ORCH_VULKAN
    worker::VulkanBackendOptions options;
    options.device.software = cell.hardware ? worker::SoftwareDevices::refuse : worker::SoftwareDevices::allow;
    options.context = of.context();
    options.pages = cell.pages;
    options.own_inputs = cell.own_inputs ? worker::OwnInputLimits{.rows = 4, .splits = 1} : worker::OwnInputLimits{};
    auto made = worker::create_vulkan_backend(std::move(model), options);
    if (!made.ok()) return Err{made.error().message};
    return std::move(made).value();
#else
    return Err{std::string("built without Vulkan")};
#endif
  }
  auto made = worker::cpu::create_cpu_backend(std::move(model), kernels_of(cell.device),
                                              {.threads = cell.threads, .context = of.context(), .pages = cell.pages});
  if (!made.ok()) return Err{made.error().message};
  return std::move(made).value();
}

namespace {

class Traffic {
 public:
  Traffic(const Case& of, const Cell& cell, Backend& backend, Fault fault)
      : of_(of),
        cell_(cell),
        backend_(backend),
        fault_(fault),
        prng_(cell.seed),
        tokenizer_(of.file != nullptr ? of.file->tokenizer() : byte_tokenizer()),
        batch_(limits(of, cell), tokenizer_) {}

  Trace run(const std::vector<std::uint32_t>& resume_ids) {
    SequenceRequest job = of_.job;
    job.resume_ids = resume_ids;
    if (fault_ == Fault::other_seed) ++job.seed;
    const auto drawn = static_cast<std::uint32_t>(prng_.below(cell_.neighbours + 1));
    const std::uint32_t place = cell_.crowded ? cell_.neighbours : drawn;
    for (std::uint32_t number = 0; number <= cell_.neighbours; ++number) {
      admit(number == place ? job : make_neighbour(of_, cell_, number));
      for (std::uint64_t steps = cell_.crowded ? 0 : prng_.below(4); steps > 0; --steps) step();
    }
    while (!trace_.finished && trace_.failure.empty() && step()) {
    }
    trace_.preemptions = batch_.counts().preemptions;
    trace_.cached_tokens = batch_.counts().cached_prompt_tokens;
    trace_.drafted = batch_.counts().tokens_drafted;
    trace_.drafts_accepted = batch_.counts().drafts_accepted;
    return std::move(trace_);
  }

 private:
  static const worker::Tokenizer& byte_tokenizer() {
    static const worker::Tokenizer out = worker::testing::byte_tokenizer();
    return out;
  }

  static worker::BatchLimits limits(const Case& of, const Cell& cell) {
    worker::BatchLimits out;
    out.slots = cell.neighbours + 1;
    out.context = of.context();
    out.rows_max = cell.rows_max;
    out.pages_total = cell.pages;
    out.vocabulary = of.vocabulary();
    out.share_prefixes = cell.share_prefixes;
    out.draft_tokens_max = cell.speculates ? 8 : 0;
    return out;
  }

  // A newcomer without room waits for the others.
  void admit(const SequenceRequest& what) {
    for (;;) {
      const auto admitted = batch_.admit(what, now_, events_);
      absorb();
      if (admitted.ok()) {
        if (what.id == of_.job.id) trace_.job_cached_tokens = *admitted;
        return;
      }
      if (!step()) {
        trace_.failure = admitted.error().message;
        return;
      }
    }
  }

  bool step() {
    if (cell_.preempt_percent > 0 && prng_.below(100) < cell_.preempt_percent) {
      const auto number = static_cast<std::uint32_t>(prng_.below(cell_.neighbours + 1));
      if (!batch_.preempt({{Uuid{2, number}}, 1}) && batch_.preempt(of_.job.id)) job_preempted_ = true;
    }
    if (!batch_.plan()) return false;
    const std::size_t vocabulary = of_.vocabulary();
    logits_.resize(std::size_t{batch_.logit_rows()} * vocabulary);
    if (fault_ == Fault::stale_page) {
      const worker::PageId victim = batch_.input().page_tables[0].front();
      ORCH_CHECK(backend_.copy_page((victim + 1) % cell_.pages, victim).ok());
    }
    const auto stepped = batch_.run_on(backend_, {logits_});
    if (!stepped.ok()) {
      trace_.failure = stepped.error().message;
      return false;
    }
    record(batch_.logit_owners());
    batch_.complete(logits_, {}, now_, events_);
    absorb();
    return true;
  }

  // The job's rows of this step, and how many drew beside it. Owners come one after the other; of the job's rows from
  // the last of its prompt on, the first draws and the others are drafts.
  void record(const std::vector<std::pair<DispatchId, std::uint32_t>>& owners) {
    const std::size_t vocabulary = of_.vocabulary();
    std::uint32_t batch = 0;
    bool draws = false;
    for (std::size_t row = 0; row < owners.size(); ++row) {
      const auto [id, position] = owners[row];
      if (row == 0 || id != owners[row - 1].first) ++batch;
      if (id != of_.job.id) continue;
      float* values = logits_.data() + row * vocabulary;
      if (fault_ == Fault::one_bit && position > of_.job.prompt.size()) {
        values[3] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(values[3]) ^ 1U);
      }
      trace_.logits[position] = {{values, values + vocabulary}, draws, job_preempted_};
      draws = draws || position + 1 >= of_.job.prompt.size();
    }
    if (draws) trace_.batch = std::max(trace_.batch, batch);
  }

  void absorb() {
    for (BatchEvent& event : events_) {
      if (event.id != of_.job.id) continue;
      if (auto* tokens = std::get_if<worker::BatchTokens>(&event.what)) {
        trace_.ids.insert(trace_.ids.end(), tokens->ids.begin(), tokens->ids.end());
        trace_.text += tokens->text;
        trace_.scores.insert(trace_.scores.end(), tokens->log_probs.begin(), tokens->log_probs.end());
      } else if (auto* scores = std::get_if<worker::BatchPromptScores>(&event.what)) {
        auto& all = trace_.prompt_scores;
        all.insert(all.end(), scores->log_probs.begin(), scores->log_probs.end());
      } else if (const auto* failure = std::get_if<worker::EngineFailure>(&event.what)) {
        trace_.failure = failure->message;
      } else {
        trace_.finished = true;
      }
    }
    events_.clear();
  }

  const Case& of_;
  const Cell& cell_;
  Backend& backend_;
  Fault fault_;
  Prng prng_;
  const worker::Tokenizer& tokenizer_;
  GenerationBatch batch_;
  Instant now_{};
  std::vector<BatchEvent> events_;
  std::vector<float> logits_;
  bool job_preempted_ = false;
  Trace trace_;
};

}  // namespace

Trace run(const Case& of, const Cell& cell, Backend& backend, const std::vector<std::uint32_t>& resume_ids,
          Fault fault) {
  return Traffic(of, cell, backend, fault).run(resume_ids);
}

}  // namespace orch::determinism
