#include "worker/core/generation_batch.h"

#include <algorithm>
#include <string>
#include <utility>

namespace orch::worker {

namespace {

EngineFailure failure(Outcome outcome, std::string message, std::string field = {}) {
  return {outcome, std::move(message), std::move(field)};
}

bool is_finite_at_least(float value, float low) { return value >= low && value < 3.0e38F; }

}  // namespace

GenerationBatch::GenerationBatch(const BatchLimits& limits, const Tokenizer& tokenizer)
    : limits_(limits), tokenizer_(tokenizer), pool_(limits.pages_total) {
  ORCH_CHECK(limits.slots > 0 && limits.rows_max >= limits.slots && limits.vocabulary >= tokenizer.size());
}

Status<EngineFailure> GenerationBatch::check(const SequenceRequest& request, const BatchLimits& limits,
                                             const Tokenizer& tokenizer) {
  if (request.prompt.empty()) return Err{failure(Outcome::INVALID_PARAMS, "the prompt has no tokens", "prompt")};
  if (request.max_tokens == 0)
    return Err{failure(Outcome::INVALID_PARAMS, "max_tokens is 0; at least 1", "max_tokens")};
  const SamplerParams& sampling = request.sampling;
  if (!is_finite_at_least(sampling.temperature, 0)) {
    return Err{failure(Outcome::INVALID_PARAMS, "temperature is not a number of at least 0", "temperature")};
  }
  if (!(sampling.top_p >= 0 && sampling.top_p <= 1)) {
    return Err{failure(Outcome::INVALID_PARAMS, "top_p is outside 0 to 1", "top_p")};
  }
  if (!(sampling.min_p >= 0 && sampling.min_p <= 1)) {
    return Err{failure(Outcome::INVALID_PARAMS, "min_p is outside 0 to 1", "min_p")};
  }
  for (const auto* ids : {&request.prompt, &request.resume_ids}) {
    const auto over = std::find_if(ids->begin(), ids->end(), [&](TokenId id) { return id >= tokenizer.size(); });
    if (over != ids->end()) {
      return Err{
          failure(Outcome::INVALID_PARAMS,
                  "token id " + std::to_string(*over) + "; the vocabulary has " + std::to_string(tokenizer.size()),
                  ids == &request.prompt ? "prompt.token_ids" : "resume_ids")};
    }
  }
  if (request.resume_ids.size() > request.max_tokens) {
    return Err{failure(
        Outcome::INVALID_PARAMS,
        std::to_string(request.resume_ids.size()) + " resume_ids; max_tokens is " + std::to_string(request.max_tokens),
        "resume_ids")};
  }
  const std::uint64_t total = request.prompt.size() + std::uint64_t{request.max_tokens};
  if (total > limits.context) {
    return Err{failure(Outcome::CONTEXT_OVERFLOW,
                       "the prompt has " + std::to_string(request.prompt.size()) + " tokens and max_tokens is " +
                           std::to_string(request.max_tokens) + ", together " + std::to_string(total) +
                           "; the context is " + std::to_string(limits.context),
                       "max_tokens")};
  }
  return Ok{};
}

Status<EngineFailure> GenerationBatch::admit(SequenceRequest request, Instant now, std::vector<BatchEvent>& out) {
  auto checked = check(request, limits_, tokenizer_);
  if (!checked.ok()) return checked;
  for (const Run& run : runs_) {
    if (run.sequence.request().id == request.id) {
      return Err{failure(Outcome::DUPLICATE_ATTEMPT, "this job and attempt is running")};
    }
  }
  if (runs_.size() >= limits_.slots) {
    return Err{failure(Outcome::SLOT_BUSY, "all " + std::to_string(limits_.slots) + " slots are busy")};
  }
  Run run{Sequence(std::move(request), tokenizer_), {}, now};
  if (run.sequence.finished_at_start()) {
    out.push_back({run.sequence.request().id, result_of(run, *run.sequence.finished_at_start(), now)});
    return Ok{};
  }
  if (!extend(pool_, run.table, run.sequence.tokens_max())) {
    return Err{failure(Outcome::NO_PAGES, std::to_string((run.sequence.tokens_max() + kPageTokens - 1) / kPageTokens) +
                                              " KV pages are needed, " + std::to_string(pool_.pages_available()) +
                                              " of " + std::to_string(pool_.pages_total()) + " are free")};
  }
  runs_.push_back(std::move(run));
  return Ok{};
}

GenerationBatch::Runs::iterator GenerationBatch::drop(Runs::iterator run) {
  free_table(pool_, run->table);
  return runs_.erase(run);
}

bool GenerationBatch::cancel(const DispatchId& id, std::vector<BatchEvent>& out) {
  const auto found =
      std::find_if(runs_.begin(), runs_.end(), [&](const Run& run) { return run.sequence.request().id == id; });
  if (found == runs_.end()) return false;
  drop(found);
  out.push_back({id, failure(Outcome::CANCELED, "canceled while it ran")});
  return true;
}

void GenerationBatch::expire(Instant now, std::vector<BatchEvent>& out) {
  for (auto run = runs_.begin(); run != runs_.end();) {
    if (run->sequence.request().deadline > now) {
      ++run;
      continue;
    }
    out.push_back({run->sequence.request().id,
                   failure(Outcome::DECODE_TIMEOUT,
                           "the deadline passed after " + std::to_string(run->sequence.completion_tokens()) + " tokens",
                           "deadline_ms")});
    run = drop(run);
  }
}

void GenerationBatch::fail_all(const EngineFailure& why, std::vector<BatchEvent>& out) {
  for (auto run = runs_.begin(); run != runs_.end(); run = drop(run)) out.push_back({run->sequence.request().id, why});
}

void GenerationBatch::add_rows(Run& run, std::uint32_t count) {
  const auto table = static_cast<SequenceIndex>(tables_.size());
  tables_.push_back(run.table.pages);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t position = run.sequence.fed() + i;
    const bool last = i + 1 == run.sequence.pending();
    rows_.push_back({run.sequence.token_at(position), position, table, last});
  }
  run.planned = count;
}

bool GenerationBatch::plan() {
  rows_.clear();
  tables_.clear();
  drawing_.clear();
  std::uint32_t decoding = 0;
  for (Run& run : runs_) {
    run.planned = 0;
    if (run.sequence.pending() == 1) ++decoding;
  }
  // rows_max >= slots, so decoding rows always fit.
  std::uint32_t feed_budget = limits_.rows_max - decoding;
  for (auto run = runs_.begin(); run != runs_.end(); ++run) {
    const std::uint32_t pending = run->sequence.pending();
    const std::uint32_t count = pending == 1 ? 1 : std::min(pending, feed_budget);
    if (count == 0) continue;
    if (pending != 1) feed_budget -= count;
    add_rows(*run, count);
    if (count == pending) drawing_.push_back(run);
  }
  return !rows_.empty();
}

void GenerationBatch::complete(std::span<const float> logits, Instant now, std::vector<BatchEvent>& out) {
  const std::size_t vocabulary = limits_.vocabulary;
  ORCH_CHECK(logits.size() == drawing_.size() * vocabulary);
  fed_total_ += rows_.size();
  for (Run& run : runs_) run.sequence.mark_fed(std::exchange(run.planned, 0));
  for (std::size_t i = 0; i < drawing_.size(); ++i) {
    const auto run = drawing_[i];
    const DispatchId id = run->sequence.request().id;
    const std::uint32_t index = run->sequence.completion_tokens();
    auto release = run->sequence.draw(logits.subspan(i * vocabulary, tokenizer_.size()));
    if (!release) {
      out.push_back({id, failure(Outcome::NUMERIC_FAULT,
                                 "a logit at position " + std::to_string(run->sequence.fed()) + " is not finite")});
      drop(run);
      continue;
    }
    if (run->first_token.is_never()) run->first_token = now;
    drawn_total_ += release->ids.size();
    if (!release->ids.empty() || !release->text.empty()) {
      out.push_back({id, BatchTokens{index, std::move(release->ids), std::move(release->text)}});
    }
    if (!release->finish) continue;
    out.push_back({id, result_of(*run, *release->finish, now)});
    drop(run);
  }
  drawing_.clear();
}

GenerationResult GenerationBatch::result_of(const Run& run, FinishReason reason, Instant now) const {
  GenerationResult out;
  out.reason = reason;
  out.prompt_tokens = run.sequence.prompt_tokens();
  out.completion_tokens = run.sequence.completion_tokens();
  const Instant first = run.first_token.is_never() ? now : run.first_token;
  out.prefill = first - run.admitted;
  out.decode = now - first;
  return out;
}

}  // namespace orch::worker
