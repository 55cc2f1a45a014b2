// One request for scores: the prompts it is made of, which of them may run now, and what their labels'
// log-probabilities mean (OC-ENGINE-1021). Pure; the engine thread owns it. The first prompt runs alone, so that the
// others find what it wrote of the query; where the item stands first nothing is shared, and they run one by one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "worker/core/engine_port.h"
#include "worker/core/sequence.h"

namespace orch::worker {

inline constexpr std::size_t kScoreItemsMax = 1024;
inline constexpr std::size_t kScoreLabelsMax = 128;
inline constexpr std::size_t kScorePromptsAtOnce = 32;
inline constexpr std::size_t kScoreTokensMax = std::size_t{1} << 22;  // of all prompts together

// The violation, its kind first, by field, as proto/orch/v1/worker.proto lists them. Token ids are below `vocabulary`.
Status<EngineFailure> check_score(const ScoreRequest& request, std::uint32_t vocabulary);

// Probabilities of the labels from their log-probabilities: over the vocabulary, or, with softmax, over the labels,
// max-subtracted, in double, by the contract's own exp.
std::vector<double> label_scores(const std::vector<double>& log_probabilities, bool softmax);

// What the prompts must fit into.
struct ScoreBounds {
  std::uint32_t context = 0;                                    // tokens: a prompt is shorter
  std::function<std::uint64_t(std::uint64_t)> tokens_at_least;  // of so many bytes of text
};

// One prompt per item, in order. Query and item are one text before they become tokens, as the client would have
// written it. The first prompt that cannot fit refuses the request, before more is made; so do too many tokens
// together.
Result<std::vector<std::vector<TokenId>>, EngineFailure> make_prompts(
    const ScoreRequest& request, const ScoreBounds& bounds,
    const std::function<std::vector<TokenId>(const std::string&)>& encode);

class ScoreJob {
 public:
  // `prompts`: one per item, in order.
  ScoreJob(ScoreRequest request, std::vector<std::vector<TokenId>> prompts, Instant deadline);

  const DispatchId& id() const { return request_.id; }
  Instant deadline() const { return deadline_; }
  // The next prompt to run, when one more may; `as` becomes the sequence's id.
  std::optional<SequenceRequest> next(const DispatchId& as) const;
  void began() { ++begun_; }  // the one of next()
  void ended(std::size_t item, const std::vector<double>& log_probabilities, std::uint32_t cached_prompt_tokens);
  std::size_t begun() const { return begun_; }
  std::size_t running() const { return begun_ - done_; }
  bool complete() const { return done_ == prompts_.size(); }
  const ScoreResult& result() const { return result_; }

 private:
  ScoreRequest request_;
  std::vector<std::vector<TokenId>> prompts_;
  Instant deadline_;
  std::uint32_t common_ = 0;  // tokens that all prompts begin with
  std::size_t begun_ = 0;
  std::size_t done_ = 0;
  ScoreResult result_;
};

}  // namespace orch::worker
