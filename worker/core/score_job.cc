#include "worker/core/score_job.h"

#include <algorithm>
#include <string>
#include <utility>

#include "worker/core/numerics.h"
#include "worker/core/request_check.h"

namespace orch::worker {

namespace {

Err<EngineFailure> invalid(std::string field, std::string message, Outcome outcome = Outcome::INVALID_PARAMS) {
  return Err{EngineFailure{outcome, std::move(message), std::move(field)}};
}

double exp_of(double x) { return x < -700.0 ? 0.0 : numerics::exp64(x); }

}  // namespace

Status<EngineFailure> check_score(const ScoreRequest& request, std::uint32_t vocabulary) {
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
    return invalid("items",
                   "too_many_items: " + std::to_string(items) + " items; at most " + std::to_string(kScoreItemsMax));
  }
  if (request.labels.empty()) {
    return invalid("label_token_ids", "empty_label_token_ids: at least one label is needed");
  }
  if (request.labels.size() > kScoreLabelsMax) {
    return invalid("label_token_ids", "too_many_labels: " + std::to_string(request.labels.size()) +
                                          " labels; at most " + std::to_string(kScoreLabelsMax));
  }
  if (auto bad = check_ids(request.labels, "label_token_ids", vocabulary); !bad.ok()) return bad;
  if (auto bad = check_ids(request.query_ids, "query_ids", vocabulary); !bad.ok()) return bad;
  for (const std::vector<TokenId>& item : request.item_ids) {
    if (auto bad = check_ids(item, "item_ids", vocabulary); !bad.ok()) return bad;
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

Result<std::vector<std::vector<TokenId>>, EngineFailure> make_prompts(
    const ScoreRequest& request, const ScoreBounds& bounds,
    const std::function<std::vector<TokenId>(const std::string&)>& encode) {
  std::vector<std::vector<TokenId>> out;
  std::uint64_t sum = 0;
  const auto too_long = [&](std::uint64_t tokens) {
    return tokens < bounds.context
               ? std::string()
               : "prompt_too_long: item " + std::to_string(out.size()) + " makes a prompt of at least " +
                     std::to_string(tokens) + " tokens; the context is " + std::to_string(bounds.context);
  };
  const auto overflow = [](std::string message) {
    return invalid("items", std::move(message), Outcome::CONTEXT_OVERFLOW);
  };
  // Of all that is known before anything is made.
  for (const std::vector<TokenId>& item : request.item_ids) sum += request.query_ids.size() + item.size();
  const std::string most = " tokens; all prompts together may have " + std::to_string(kScoreTokensMax) + " tokens";
  if (sum > kScoreTokensMax) return overflow("too_many_tokens: " + std::to_string(sum) + most);
  for (const std::vector<TokenId>& item : request.item_ids) {
    if (auto why = too_long(request.query_ids.size() + item.size()); !why.empty()) return overflow(std::move(why));
    out.push_back(request.item_first ? item : request.query_ids);
    const std::vector<TokenId>& rest = request.item_first ? request.query_ids : item;
    out.back().insert(out.back().end(), rest.begin(), rest.end());
  }
  for (const std::string& item : request.item_texts) {
    const std::uint64_t least = bounds.tokens_at_least(request.query_text.size() + item.size());
    if (auto why = too_long(least); !why.empty()) return overflow(std::move(why));
    auto prompt = encode(request.item_first ? item + request.query_text : request.query_text + item);
    if (auto why = too_long(prompt.size()); !why.empty()) return overflow(std::move(why));
    sum += prompt.size();
    if (sum > kScoreTokensMax) return overflow("too_many_tokens: " + std::to_string(sum) + most);
    out.push_back(std::move(prompt));
  }
  return out;
}

ScoreJob::ScoreJob(ScoreRequest request, std::vector<std::vector<TokenId>> prompts, Instant deadline)
    : request_(std::move(request)), prompts_(std::move(prompts)), deadline_(deadline) {
  result_.scores.resize(prompts_.size());
  result_.query_shared = !request_.item_first;
  common_ = static_cast<std::uint32_t>(prompts_[0].size());
  for (const std::vector<TokenId>& prompt : prompts_) {
    const auto end = prompts_[0].begin() + common_;
    common_ = static_cast<std::uint32_t>(std::mismatch(prompts_[0].begin(), end, prompt.begin(), prompt.end()).first -
                                         prompts_[0].begin());
  }
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

void ScoreJob::ended(std::size_t item, const std::vector<double>& log_probabilities,
                     std::uint32_t cached_prompt_tokens) {
  result_.scores[item] = label_scores(log_probabilities, request_.apply_softmax);
  result_.prompt_tokens += static_cast<std::uint32_t>(prompts_[item].size());
  result_.cached_prompt_tokens += cached_prompt_tokens;
  // All of the query, but a prompt's last token is always computed. Where pages are short it may be gone again.
  const auto findable = std::min(common_, static_cast<std::uint32_t>(prompts_[item].size()) - 1);
  if (item > 0 && (common_ == 0 || cached_prompt_tokens < findable)) result_.query_shared = false;
  ++done_;
}

}  // namespace orch::worker
