// The sequences that run together: admission to slots and pages, the rows of each step, and what a step's logits mean
// for each of them. Pure; one engine thread owns it. Iteration-level batching: a step holds one row of every sequence
// that is decoding and, within the row budget, prompt rows of those still being fed, oldest first.
//
// All pages a sequence can need are taken at admission, so a running sequence never lacks one.
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
#include "worker/core/sequence.h"

namespace orch::worker {

struct BatchLimits {
  std::uint32_t slots = 1;
  std::uint32_t context = 0;     // tokens of one sequence, prompt and completion
  std::uint32_t rows_max = 256;  // of one step
  std::uint32_t pages_total = 0;
  std::uint32_t vocabulary = 0;  // logits of one row; at least the tokenizer's size, ids beyond it are never drawn
};

struct BatchTokens {
  std::uint32_t index = 0;  // of the first id, among the completion's tokens
  std::vector<TokenId> ids;
  std::string text;
};

struct BatchEvent {
  DispatchId id;
  std::variant<BatchTokens, GenerationResult, EngineFailure> what;
};

class GenerationBatch {
 public:
  // `tokenizer` must outlive the batch.
  GenerationBatch(const BatchLimits& limits, const Tokenizer& tokenizer);

  // Checks a request against the model alone; needs no slot.
  static Status<EngineFailure> check(const SequenceRequest& request, const BatchLimits& limits,
                                     const Tokenizer& tokenizer);

  // Takes a slot and pages, or says why not (CONTEXT_OVERFLOW, INVALID_PARAMS, SLOT_BUSY, NO_PAGES, DUPLICATE_ATTEMPT).
  // A sequence that is complete already ends in the next events.
  Status<EngineFailure> admit(SequenceRequest request, Instant now, std::vector<BatchEvent>& out);

  bool cancel(const DispatchId& id, std::vector<BatchEvent>& out);
  void expire(Instant now, std::vector<BatchEvent>& out);
  void fail_all(const EngineFailure& failure, std::vector<BatchEvent>& out);

  // Builds the next step; false: nothing runs. The input stays valid until the next call of a non-const method.
  bool plan();
  StepInput input() const { return {rows_, tables_}; }
  std::uint32_t logit_rows() const { return static_cast<std::uint32_t>(drawing_.size()); }
  // `logits`: one row of the vocabulary's size for each logit row, in order.
  void complete(std::span<const float> logits, Instant now, std::vector<BatchEvent>& out);

  std::uint32_t running() const { return static_cast<std::uint32_t>(runs_.size()); }
  std::uint32_t pages_used() const { return pool_.pages_live(); }
  std::uint64_t tokens_fed_total() const { return fed_total_; }
  std::uint64_t tokens_drawn_total() const { return drawn_total_; }

 private:
  struct Run {
    Sequence sequence;
    PageTable table;
    Instant admitted;
    Instant first_token = Instant::never();
    std::uint32_t planned = 0;  // rows of the step being built
  };
  using Runs = std::list<Run>;

  void add_rows(Run& run, std::uint32_t count);
  // Frees what the run holds.
  Runs::iterator drop(Runs::iterator run);
  GenerationResult result_of(const Run& run, FinishReason reason, Instant now) const;

  BatchLimits limits_;
  const Tokenizer& tokenizer_;
  KvPagePool pool_;
  Runs runs_;  // in order of admission
  std::vector<Row> rows_;
  std::vector<std::vector<PageId>> tables_;
  std::vector<Runs::iterator> drawing_;
  std::uint64_t fed_total_ = 0;
  std::uint64_t drawn_total_ = 0;
};

}  // namespace orch::worker
