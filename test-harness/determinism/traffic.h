// Runs a job and its neighbours in a batch over a real backend, and records what the job got: tokens, text, numbers,
// and every row of logits by its position.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "determinism/cell.h"
#include "worker/core/backend.h"

namespace orch::determinism {

// One row of logits as it was computed last.
struct LogitRow {
  std::vector<float> values;
  bool drafted = false;    // its token was a draft
  bool preempted = false;  // the job's pages had been taken from it before
};

struct Trace {
  std::vector<std::uint32_t> ids;
  std::string text;
  std::vector<TokenLogProbs> scores;
  std::vector<TokenLogProbs> prompt_scores;
  std::map<std::uint32_t, LogitRow> logits;  // by position
  bool finished = false;
  std::string failure;
  std::uint64_t preemptions = 0;  // in the whole batch
  std::uint64_t cached_tokens = 0;
  std::uint32_t job_cached_tokens = 0;
  std::uint32_t batch = 0;  // the most sequences that drew a token in one step, the job among them
  std::uint64_t drafted = 0;
  std::uint64_t drafts_accepted = 0;
};

// What is wrong on purpose, to see that it is seen.
enum class Fault : std::uint8_t { none, stale_page, one_bit, other_seed };

// Error: the device refuses this model.
Result<std::unique_ptr<worker::Backend>, std::string> make_backend(const Case& of, const Cell& cell);

Trace run(const Case& of, const Cell& cell, worker::Backend& backend, const std::vector<std::uint32_t>& resume_ids,
          Fault fault);

}  // namespace orch::determinism
