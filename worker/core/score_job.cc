#include "worker/core/score_job.h"

#include <algorithm>
#include <string>
#include <utility>

#include "worker/core/numerics.h"

namespace orch::worker {

namespace {

Err<EngineFailure> invalid(std::string field, std::string message) {
  return Err{EngineFailure{Outcome::INVALID_PARAMS, std::move(message), std::move(field)}};
}

double exp_of(double x) { return x < -700.0 ? 0.0 : numerics::exp64(x); }

}  // namespace

Status<EngineFailure> check_score(const ScoreRequest& request) {
  const bool text_query = !request.query_text.empty();
  const bool id_query = !request.query_ids.empty();
  const bool text_items = !request.item_texts.empty();
  const bool id_items = !request.item_ids.empty();
  if (!text_query && !id_query) return invalid("query", "empty_query: a text or token ids are needed");
  if (!text_items && !id_items) return invalid("items", "empty_items: at least one item is needed");
  if ((text_query && id_query) || (text_items && id_items) || text_query != text_items) {
    return invalid("items", "mixed_input_types: query and items must both be texts or both be token ids");
  }
  const std::size_t items = request.item_texts.size() + request.item_ids.size();
  if (items > kScoreItemsMax) {
    return invalid("items", std::to_string(items) + " items; at most " + std::to_string(kScoreItemsMax));
  }
  if (request.labels.empty()) {
    return invalid("label_token_ids", "empty_label_token_ids: at least one label is needed");
  }
  if (request.labels.size() > kScoreLabelsMax) {
    return invalid("label_token_ids",
                   std::to_string(request.labels.size()) + " labels; at most " + std::to_string(kScoreLabelsMax));
  }
  return Ok{};
}

std::vector<double> label_scores(const std::vector<double>& log_probabilities, bool softmax) {
  std::vector<double> out;
  if (!softmax) {
    for (const double each : log_probabilities) out.push_back(exp_of(each));
    return out;
  }
  const double most = *std::max_element(log_probabilities.begin(), log_probabilities.end());
  double sum = 0;
  for (const double each : log_probabilities) {
    out.push_back(exp_of(each - most));
    sum = sum + out.back();
  }
  for (double& each : out) each = each / sum;
  return out;
}

ScoreJob::ScoreJob(ScoreRequest request, std::vector<std::vector<TokenId>> prompts, Instant deadline)
    : request_(std::move(request)), prompts_(std::move(prompts)), deadline_(deadline) {
  result_.scores.resize(prompts_.size());
  result_.query_shared = !request_.item_first;
}

std::optional<SequenceRequest> ScoreJob::next(const DispatchId& as) const {
  if (begun_ == prompts_.size()) return std::nullopt;
  const std::size_t at_once = request_.item_first || done_ == 0 ? 1 : kScorePromptsAtOnce;
  if (running() >= at_once) return std::nullopt;
  SequenceRequest out;
  out.id = as;
  out.prompt = prompts_[begun_];
  out.max_tokens = 1;
  out.labels = request_.labels;
  out.tenant = request_.tenant;
  out.deadline = deadline_;
  return out;
}

void ScoreJob::began(std::uint32_t cached_prompt_tokens) {
  result_.prompt_tokens += static_cast<std::uint32_t>(prompts_[begun_].size());
  result_.cached_prompt_tokens += cached_prompt_tokens;
  // Pages are shared whole: the items behind the first find of a query shorter than one page nothing.
  if (begun_ > 0 && cached_prompt_tokens == 0) result_.query_shared = false;
  ++begun_;
}

void ScoreJob::ended(std::size_t item, const std::vector<double>& log_probabilities) {
  result_.scores[item] = label_scores(log_probabilities, request_.apply_softmax);
  ++done_;
}

}  // namespace orch::worker
