// The sequences that run together: admission to slots and pages, the rows of each step, and what a step's logits mean
// for each of them. Pure; one engine thread owns it. Iteration-level batching: a step holds one row of every sequence
// that is decoding and, within the row budget, prompt rows of those still being fed, oldest first.
//
// Pages (OC-ENGINE-1015 to OC-ENGINE-1018). A sequence is seated when it has pages for all its tokens and one more;
// full pages of equal prefixes of its tenant are shared, not computed again, also those that are filled while it is fed
// (OC-ENGINE-1026), and what another page behind them begins with is copied (OC-ENGINE-1027). It takes further pages as
// it grows. When none is left the youngest seated sequence gives up its pages and waits, keeping its slot and its
// place: it is fed again later, from what of its pages is still there, and draws what it would have drawn. The oldest
// never waits for anybody, and every sequence alone fits, so that something always moves.
//
// Drafts (OC-ENGINE-1023). Where few sequences decode, rows of tokens that may come next go along with the last one. A
// draft's row counts only if its token is the one that was drawn at its place; what else it wrote into pages that the
// sequence has anyway is written again before anything reads it.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "worker/core/backend.h"
#include "worker/core/engine_port.h"
#include "worker/core/kv_pages.h"
#include "worker/core/prompt_lookup.h"
#include "worker/core/sampler.h"
#include "worker/core/sequence.h"
#include "worker/core/sequence_pages.h"

namespace orch::worker {

struct BatchLimits {
  std::uint32_t slots = 1;
  std::uint32_t context = 0;     // tokens of one sequence, prompt and completion
  std::uint32_t rows_max = 256;  // of one step
  std::uint32_t pages_total = 0;
  std::uint32_t vocabulary = 0;  // logits of one row; at least the tokenizer's size, ids beyond it are never drawn
  std::uint32_t embedding = 0;   // floats of a row's hidden state; 0: the backend tells none
  PageScope scope{};             // of all page keys
  bool share_prefixes = true;    // false: every prompt is computed whole
  std::uint32_t draft_tokens_max = 0;  // of a sequence in one step; 0: none are drafted
};

using BatchTokens = GeneratedTokens;

struct BatchPromptScores {
  std::vector<TokenLogProbs> log_probs;
};

// Terminal of a sequence with labels: their log-probabilities, in the order asked for.
struct BatchLabelScores {
  std::vector<double> log_probabilities;
  std::uint32_t cached_prompt_tokens = 0;
};

// A sequence whose first rows are in the step.
struct BatchStart {
  DispatchId id;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
};

struct BatchEvent {
  DispatchId id;
  std::variant<BatchTokens, BatchPromptScores, BatchLabelScores, EmbedResult, GenerationResult, EngineFailure> what;
};

// Monotone counts.
struct BatchCounts {
  std::uint64_t tokens_fed = 0;
  std::uint64_t tokens_drawn = 0;
  std::uint64_t prompt_tokens = 0;         // of admitted sequences
  std::uint64_t cached_prompt_tokens = 0;  // of them, those that shared pages held already
  std::uint64_t preemptions = 0;
  std::uint64_t tokens_drafted = 0;
  std::uint64_t drafts_accepted = 0;  // of them, those that were drawn
};

class GenerationBatch {
 public:
  // `tokenizer` must outlive the batch.
  GenerationBatch(const BatchLimits& limits, const Tokenizer& tokenizer);

  // Checks a request against the model alone; needs no slot.
  static Status<EngineFailure> check(const SequenceRequest& request, const BatchLimits& limits,
                                     const Tokenizer& tokenizer);

  // Takes a slot and pages, or says why not (CONTEXT_OVERFLOW, INVALID_PARAMS, SLOT_BUSY, NO_PAGES, DUPLICATE_ATTEMPT).
  // A sequence that is complete already ends in the next events. The value: prompt tokens that are found at once.
  Result<std::uint32_t, EngineFailure> admit(SequenceRequest request, Instant now, std::vector<BatchEvent>& out);

  bool cancel(const DispatchId& id, std::vector<BatchEvent>& out);
  void expire(Instant now, std::vector<BatchEvent>& out);
  void fail_all(const EngineFailure& failure, std::vector<BatchEvent>& out);
  // Takes the sequence's pages away; it goes on when pages are free. False: unknown, or without pages.
  bool preempt(const DispatchId& id);

  // Builds the next step; false: nothing runs. The input stays valid until the next call of a non-const method.
  bool plan();
  StepInput input() const { return {rows_, tables_}; }
  // Runs the planned step: what is copied first.
  Status<BackendFault> run_on(Backend& backend, const StepOutput& out) const;
  // Who begins with this step, each sequence once.
  const std::vector<BatchStart>& starts() const { return starts_; }
  std::uint32_t logit_rows() const { return static_cast<std::uint32_t>(wanted_.size()); }
  // The job and the position that each logit row belongs to, in order.
  std::vector<std::pair<DispatchId, std::uint32_t>> logit_owners() const;
  std::uint32_t hidden_rows() const { return static_cast<std::uint32_t>(hidden_.size()); }
  // `logits`: one row of the vocabulary's size for each logit row, in order; `hidden` likewise.
  void complete(std::span<const float> logits, std::span<const float> hidden, Instant now,
                std::vector<BatchEvent>& out);

  std::uint32_t running() const { return static_cast<std::uint32_t>(runs_.size()); }
  // Of them those that hold a slot; sequences that draw nothing hold none.
  std::uint32_t slots_used() const;
  std::uint32_t embeddings() const;  // that are being computed
  std::uint32_t pages_used() const { return pool_.pages_live(); }
  const BatchCounts& counts() const { return counts_; }

 private:
  struct Run {
    Sequence sequence;
    SequencePages pages;
    Instant admitted;
    bool seated = false;
    bool started = false;
    bool waited = false;              // left out of the last step for pages that were filled in it
    std::uint32_t known_prompt = 0;   // prompt tokens that were ever fed
    std::uint32_t cached_prompt = 0;  // of them, those that were found
    Instant first_token = Instant::never();
    std::uint32_t planned = 0;     // rows of the step being built, the draft's not counted
    std::vector<TokenId> draft{};  // fed behind the last token in this step
    std::uint32_t accepted = 0;    // of the draft
    bool drew = false;             // in this step
    DraftBudget drafts{};
    bool over = false;  // ended within complete()
  };
  using Runs = std::list<Run>;
  struct WantedRow {
    Runs::iterator run;
    std::uint32_t position = 0;
    TokenId token = 0;
  };

  std::uint32_t seated() const;
  bool seat(Run& run);
  bool grow(Runs::iterator run, std::uint32_t length);
  void unseat(Run& run);
  void free_pages(Run& run);
  void find_more(Run& run);
  void note_found(Run& run);
  bool waits(Run& run, std::uint32_t count);
  void copy_beginning(Run& run);
  std::uint32_t rows_for(Run& run, std::uint32_t budget);
  void publish(Run& run, bool beginning);
  void draft(Run& run, std::uint32_t room) const;
  static bool was_drawn(const WantedRow& row);
  void settle_draft(Run& run);
  void add_rows(Runs::iterator run, std::uint32_t count);
  bool take_row(const WantedRow& row, std::span<const float> logits, Instant now, std::vector<BatchEvent>& out);
  void take_hidden(std::span<const float> hidden, std::vector<BatchEvent>& out);
  void take_labels(const Run& run, std::span<const float> logits, std::vector<BatchEvent>& out);
  bool take_draw(Run& run, std::span<const float> logits, Instant now, std::vector<BatchEvent>& out);
  // Frees what the run holds.
  Runs::iterator drop(Runs::iterator run);
  Runs::iterator find(const DispatchId& id);
  GenerationResult result_of(const Run& run, FinishReason reason, Instant now) const;

  BatchLimits limits_;
  const Tokenizer& tokenizer_;
  KvPagePool pool_;
  Sampler sampler_;
  Runs runs_;  // in order of admission
  std::vector<Row> rows_;
  std::vector<std::vector<PageId>> tables_;
  std::vector<WantedRow> wanted_;  // their logits
  std::vector<WantedRow> hidden_;  // their hidden states
  std::vector<BatchStart> starts_;
  ComingPages coming_;
  std::vector<PageCopy> copies_;  // in the order in which they are to be made
  BatchCounts counts_;
};

}  // namespace orch::worker
