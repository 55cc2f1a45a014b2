#include "worker/core/generation_batch.h"

#include <algorithm>
#include <string>
#include <utility>

#include "worker/core/request_check.h"

namespace orch::worker {

namespace {

// Prompt rows with logits of one step: a row of logits is as wide as the vocabulary.
constexpr std::uint32_t kScoredRowsMax = 32;
// A row of a draft can be cheap beside the weights that a step reads for few rows; in a full batch it is as dear as
// any.
constexpr std::uint32_t kDraftingSequencesMax = 2;

EngineFailure failure(Outcome outcome, std::string message, std::string field = {}) {
  return {outcome, std::move(message), std::move(field)};
}

// Its one row is outside the budget of those that are fed.
bool decodes(const Sequence& sequence) { return sequence.pending() == 1 && sequence.request().draws(); }

}  // namespace

GenerationBatch::GenerationBatch(const BatchLimits& limits, const Tokenizer& tokenizer)
    : limits_(limits), tokenizer_(tokenizer), pool_(limits.pages_total) {
  ORCH_CHECK(limits.slots > 0 && limits.rows_max >= limits.slots && limits.vocabulary >= tokenizer.size());
}

Status<EngineFailure> GenerationBatch::check(const SequenceRequest& request, const BatchLimits& limits,
                                             const Tokenizer& tokenizer) {
  return check_request(request, {tokenizer.size(), limits.context, limits.pages_total, limits.embedding});
}

Result<std::uint32_t, EngineFailure> GenerationBatch::admit(SequenceRequest request, Instant now,
                                                            std::vector<BatchEvent>& out) {
  const auto checked = check(request, limits_, tokenizer_);
  if (!checked.ok()) return Err{checked.error()};
  if (find(request.id) != runs_.end()) {
    return Err{failure(Outcome::DUPLICATE_ATTEMPT, "this job and attempt is running")};
  }
  if (request.draws() && slots_used() >= limits_.slots) {
    return Err{failure(Outcome::SLOT_BUSY, "all " + std::to_string(limits_.slots) + " slots are busy")};
  }
  SequencePages pages(limits_.scope, request.tenant);
  Run run{Sequence(std::move(request), tokenizer_), std::move(pages), now};
  if (!run.sequence.resume_allowed()) {
    return Err{
        failure(Outcome::INVALID_PARAMS, "the constraint of the output does not allow the resume_ids", "resume_ids")};
  }
  if (run.sequence.finished_at_start()) {
    out.push_back({run.sequence.request().id, result_of(run, *run.sequence.finished_at_start(), now)});
    return std::uint32_t{0};
  }
  // Who waits for pages comes first (OC-ENGINE-1017): a newcomer gets none that an older one needs.
  if (seated() < runs_.size() || !seat(run)) {
    return Err{failure(Outcome::NO_PAGES, std::to_string(pages_for(run.sequence.tokens() + 1)) +
                                              " KV pages are needed, " + std::to_string(pool_.pages_available()) +
                                              " of " + std::to_string(pool_.pages_total()) + " are free")};
  }
  counts_.prompt_tokens += run.sequence.prompt_tokens();
  const std::uint32_t cached = run.cached_prompt;
  runs_.push_back(std::move(run));
  return cached;
}

std::uint32_t GenerationBatch::slots_used() const {
  return static_cast<std::uint32_t>(
      std::count_if(runs_.begin(), runs_.end(), [](const Run& run) { return run.sequence.request().draws(); }));
}

std::uint32_t GenerationBatch::embeddings() const {
  return static_cast<std::uint32_t>(std::count_if(
      runs_.begin(), runs_.end(), [](const Run& run) { return run.sequence.request().pooling.has_value(); }));
}

std::uint32_t GenerationBatch::seated() const {
  return static_cast<std::uint32_t>(
      std::count_if(runs_.begin(), runs_.end(), [](const Run& run) { return run.seated; }));
}

GenerationBatch::Runs::iterator GenerationBatch::drop(Runs::iterator run) {
  free_table(pool_, run->pages.table);
  return runs_.erase(run);
}

GenerationBatch::Runs::iterator GenerationBatch::find(const DispatchId& id) {
  return std::find_if(runs_.begin(), runs_.end(), [&](const Run& run) { return run.sequence.request().id == id; });
}

bool GenerationBatch::cancel(const DispatchId& id, std::vector<BatchEvent>& out) {
  const auto found = find(id);
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

// Within the pages that the sequence has and the tokens it may still draw.
void GenerationBatch::draft(Run& run, std::uint32_t room) const {
  const Sequence& sequence = run.sequence;
  const auto written = static_cast<std::uint32_t>(run.pages.table.pages.size()) * kPageTokens;
  const std::uint32_t count = std::min({limits_.draft_tokens_max, run.drafts.allowed(), room,
                                        written - sequence.tokens(), sequence.tokens_max() - sequence.tokens() - 1});
  if (count > 0) run.draft = looked_up(sequence.all(), count);
}

// The rows of drafted tokens that were drawn are fed like any other; the rest is forgotten. A draw without a draft
// counts too: a sequence whose drafts all failed earns the next one by it.
void GenerationBatch::settle_draft(Run& run) {
  if (limits_.draft_tokens_max == 0 || !std::exchange(run.drew, false)) return;
  counts_.tokens_drafted += run.draft.size();
  counts_.drafts_accepted += run.accepted;
  run.drafts.settle(static_cast<std::uint32_t>(run.draft.size()), run.accepted);
  run.sequence.mark_fed(std::exchange(run.accepted, 0));
  run.draft.clear();
}

void GenerationBatch::add_rows(Runs::iterator run, std::uint32_t count) {
  const Sequence& sequence = run->sequence;
  const auto table = static_cast<SequenceIndex>(tables_.size());
  tables_.push_back(run->pages.table.pages);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t position = sequence.fed() + i;
    const bool scored =
        sequence.scores_prompt() && position + 1 >= sequence.next_to_score() && position + 1 < sequence.prompt_tokens();
    const bool pools = sequence.request().pooling.has_value();
    const bool wanted = !pools && (scored || position + 1 == sequence.tokens());
    const bool hidden = sequence.wants_hidden(position);
    const TokenId token = sequence.token_at(position);
    rows_.push_back({token, position, table, wanted, hidden});
    if (wanted) wanted_.push_back({run, position, token});
    if (hidden) hidden_.push_back({run, position, token});
  }
  for (std::uint32_t position = sequence.tokens(); const TokenId token : run->draft) {
    rows_.push_back({token, position, table, true, false});
    wanted_.push_back({run, position++, token});
  }
  run->planned = count;
  if (std::exchange(run->started, true)) return;
  starts_.push_back({sequence.request().id, sequence.prompt_tokens(), run->cached_prompt});
}

// Of one that is fed. 0: it has to wait.
std::uint32_t GenerationBatch::rows_for(Run& run, std::uint32_t budget) {
  const Sequence& sequence = run.sequence;
  const std::uint32_t most = sequence.scores_prompt() ? std::min(budget, kScoredRowsMax) : budget;
  if (most == 0 || waits(run, std::min(sequence.pending(), most))) return 0;
  copy_beginning(run);
  return std::min(sequence.pending(), most);
}

bool GenerationBatch::plan() {
  rows_.clear();
  tables_.clear();
  wanted_.clear();
  hidden_.clear();
  starts_.clear();
  coming_.clear();
  bool may_seat = true;  // in order: nobody overtakes one that waits for pages
  std::uint32_t decoding = 0;
  for (Run& run : runs_) {
    run.planned = 0;
    run.draft.clear();
    if (run.seated)
      find_more(run);
    else
      may_seat = may_seat && seat(run);
    if (run.seated && decodes(run.sequence)) ++decoding;
  }
  // rows_max >= slots, so decoding rows always fit.
  std::uint32_t feed_budget = limits_.rows_max - decoding;
  for (auto run = runs_.begin(); run != runs_.end(); ++run) {
    if (!run->seated) continue;
    const bool one = decodes(run->sequence);
    const std::uint32_t count = one ? 1 : rows_for(*run, feed_budget);
    if (count == 0 || !grow(run, run->sequence.fed() + count)) continue;
    if (!one) {
      feed_budget -= count;
      if (limits_.share_prefixes) coming_.add(run->pages, run->sequence, count);
    }
    if (one && decoding <= kDraftingSequencesMax && decoding == seated()) draft(*run, feed_budget / decoding);
    add_rows(run, count);
  }
  return !rows_.empty();
}

std::vector<std::pair<DispatchId, std::uint32_t>> GenerationBatch::logit_owners() const {
  std::vector<std::pair<DispatchId, std::uint32_t>> out;
  out.reserve(wanted_.size());
  for (const WantedRow& row : wanted_) out.emplace_back(row.run->sequence.request().id, row.position);
  return out;
}

Status<BackendFault> GenerationBatch::run_on(Backend& backend, const StepOutput& out) const {
  for (const PageCopy& copy : copies_) {
    auto copied = backend.copy_page(copy.source, copy.target);
    if (!copied.ok()) return copied;
  }
  return backend.step(input(), out);
}

void GenerationBatch::complete(std::span<const float> logits, std::span<const float> hidden, Instant now,
                               std::vector<BatchEvent>& out) {
  const std::size_t vocabulary = limits_.vocabulary;
  ORCH_CHECK(logits.size() == wanted_.size() * vocabulary && hidden.size() == hidden_.size() * limits_.embedding);
  counts_.tokens_fed += rows_.size();
  for (Run& run : runs_) {
    run.sequence.mark_fed(run.planned);
    run.known_prompt = std::max(run.known_prompt, std::min(run.sequence.fed(), run.sequence.prompt_tokens()));
  }
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    Run& run = *wanted_[i].run;
    if (run.over || !was_drawn(wanted_[i])) continue;
    run.over = !take_row(wanted_[i], logits.subspan(i * vocabulary, tokenizer_.size()), now, out);
  }
  wanted_.clear();
  for (Run& run : runs_) settle_draft(run);
  take_hidden(hidden, out);
  for (Run& run : runs_) publish(run, std::exchange(run.planned, 0) > 1 || run.over);
  copies_.clear();
  for (auto run = runs_.begin(); run != runs_.end();) run = run->over ? drop(run) : std::next(run);
}

// ENGINE-RULES 7: a draft's row means something only behind the very tokens that were drawn.
bool GenerationBatch::was_drawn(const WantedRow& row) {
  Run& run = *row.run;
  const bool drafted = row.position >= run.sequence.fed();
  if (!drafted) return true;
  if (row.position >= run.sequence.tokens() || run.sequence.token_at(row.position) != row.token) return false;
  ++run.accepted;
  return true;
}

// OC-ENGINE-1022.
void GenerationBatch::take_hidden(std::span<const float> hidden, std::vector<BatchEvent>& out) {
  for (std::size_t i = 0; i < hidden_.size(); ++i) {
    hidden_[i].run->sequence.take_hidden(hidden_[i].position, hidden.subspan(i * limits_.embedding, limits_.embedding));
  }
  hidden_.clear();
  for (Run& run : runs_) {
    const SequenceRequest& request = run.sequence.request();
    if (!request.pooling || run.sequence.pending() > 0) continue;
    run.over = true;
    auto vector = run.sequence.embedding();
    if (!vector) {
      out.push_back({request.id, failure(Outcome::NUMERIC_FAULT, "the embedding is not finite, or zero")});
      continue;
    }
    out.push_back({request.id,
                   EmbedResult{std::move(*vector), *request.pooling, run.sequence.prompt_tokens(), run.cached_prompt}});
  }
}

// False: the run has ended.
bool GenerationBatch::take_row(const WantedRow& row, std::span<const float> logits, Instant now,
                               std::vector<BatchEvent>& out) {
  Run& run = *row.run;
  if (row.position + 1 == run.sequence.tokens()) return take_draw(run, logits, now, out);
  const DispatchId id = run.sequence.request().id;
  std::optional<TokenLogProbs> scored = run.sequence.score_next(logits);
  if (!scored) {
    out.push_back({id, failure(Outcome::NUMERIC_FAULT,
                               "a logit at position " + std::to_string(row.position + 1) + " is not finite")});
    return false;
  }
  auto* last = out.empty() || out.back().id != id ? nullptr : std::get_if<BatchPromptScores>(&out.back().what);
  if (last == nullptr) {
    out.push_back({id, BatchPromptScores{}});
    last = std::get_if<BatchPromptScores>(&out.back().what);
  }
  last->log_probs.push_back(std::move(*scored));
  return true;
}

void GenerationBatch::take_labels(const Run& run, std::span<const float> logits, std::vector<BatchEvent>& out) {
  const SequenceRequest& request = run.sequence.request();
  if (!all_finite(logits)) {
    const std::string where = std::to_string(run.sequence.tokens());
    return out.push_back(
        {request.id, failure(Outcome::NUMERIC_FAULT, "a logit at position " + where + " is not finite")});
  }
  const LogProbs row(logits);
  BatchLabelScores scores{.log_probabilities = {}, .cached_prompt_tokens = run.cached_prompt};
  for (const TokenId label : request.labels) scores.log_probabilities.push_back(row.log_probability(label));
  out.push_back({request.id, std::move(scores)});
}

bool GenerationBatch::take_draw(Run& run, std::span<const float> logits, Instant now, std::vector<BatchEvent>& out) {
  const DispatchId id = run.sequence.request().id;
  if (!run.sequence.request().labels.empty()) {
    take_labels(run, logits, out);
    return false;
  }
  const std::uint32_t index = run.sequence.completion_tokens();
  auto release = run.sequence.draw(logits, sampler_);
  if (!release.ok()) {
    const std::string where = std::to_string(run.sequence.tokens());
    out.push_back(
        {id, release.error() == SampleFault::not_finite
                 ? failure(Outcome::NUMERIC_FAULT, "a logit at position " + where + " is not finite")
                 : failure(Outcome::INTERNAL, "the constraint of the output allows no token at position " + where)});
    return false;
  }
  run.drew = true;
  if (run.first_token.is_never()) run.first_token = now;
  counts_.tokens_drawn += release->ids.size();
  if (!release->ids.empty() || !release->text.empty()) {
    out.push_back(
        {id, BatchTokens{index, std::move(release->ids), std::move(release->text), std::move(release->log_probs)}});
  }
  if (!release->finish) return true;
  out.push_back({id, result_of(run, *release->finish, now)});
  return false;
}

GenerationResult GenerationBatch::result_of(const Run& run, FinishReason reason, Instant now) const {
  GenerationResult out;
  out.reason = reason;
  out.prompt_tokens = run.sequence.prompt_tokens();
  out.completion_tokens = run.sequence.completion_tokens();
  out.cached_prompt_tokens = run.cached_prompt;
  const Instant first = run.first_token.is_never() ? now : run.first_token;
  out.prefill = first - run.admitted;
  out.decode = now - first;
  return out;
}

}  // namespace orch::worker
