#include "sim/poison_watch.h"

#include <algorithm>
#include <variant>

namespace orch::sim {

void PoisonTotals::add(const PoisonTotals& other) {
  prompts += other.prompts;
  at_several += other.at_several;
  refused += other.refused;
  workers_max = std::max(workers_max, other.workers_max);
}

void PoisonWatch::submitted(JobId job, const std::string& prompt, std::size_t gateway) {
  jobs_[job] = {prompt, gateway};
  ++prompts_[prompt].jobs[gateway];
}

void PoisonWatch::died(JobId job) {
  if (const auto sent = jobs_.find(job); sent != jobs_.end()) ++prompts_.at(sent->second.prompt).workers;
}

void PoisonWatch::before(std::size_t gateway, const gateway::Effect& effect) {
  const auto prompt_of = [&](JobId job) -> Prompt* {
    const auto sent = jobs_.find(job);
    return sent == jobs_.end() ? nullptr : &prompts_.at(sent->second.prompt);
  };
  if (const auto* dispatch = std::get_if<gateway::Dispatch>(&effect)) {
    if (const Prompt* prompt = prompt_of(dispatch->dispatch.job)) check(gateway, *prompt, dispatch->dispatch.job);
  } else if (const auto* poisoned = std::get_if<gateway::NotedPoisoned>(&effect)) {
    Prompt* prompt = prompt_of(poisoned->job);
    if (prompt == nullptr) return;
    prompt->refusals.try_emplace(gateway,
                                 Refusal{reports_.holder(gateway), reports_.reports_of(gateway) + 1, world_.now()});
  } else if (const auto* ended = std::get_if<gateway::NotedEnded>(&effect)) {
    Prompt* prompt = prompt_of(ended->job);
    if (prompt != nullptr && ended->failure && ended->failure->poisoned && !prompt->refusals.contains(gateway))
      ++prompt->refused;
  } else if (const auto* refused = std::get_if<gateway::NotedRefused>(&effect)) {
    Prompt* prompt = refused->job ? prompt_of(*refused->job) : nullptr;
    if (prompt != nullptr && refused->failure.poisoned && !prompt->refusals.contains(gateway)) ++prompt->refused;
  }
}

void PoisonWatch::check(std::size_t gateway, const Prompt& prompt, JobId job) const {
  const std::string who = "gateway " + std::to_string(gateway + 1) + " sends job " + std::to_string(job.value.lo);
  for (const auto& [other, refusal] : prompt.refusals) {
    const bool own = refusal.by == reports_.holder(gateway);
    const bool told = !own && reports_.has_heard(gateway, refusal.by, refusal.report);
    if (own || told) {
      return world_.violation(who + " to a worker, whose prompt it " + (own ? "refuses" : "has heard to be refused") +
                              " (M6)");
    }
    const Instant since = std::max(refusal.at, world_.undisturbed_since());
    const bool lives =
        other != gateway && refusal.by == reports_.holder(other);  // else it may have died before it told
    if (lives && since <= world_.now() - kTravel && reports_.stands())
      return world_.violation(who + " to a worker, " + std::to_string((world_.now() - refusal.at).ms()) +
                              " ms after another gateway refused its prompt (M6)");
  }
}

PoisonTotals PoisonWatch::totals() const {
  PoisonTotals out;
  for (const auto& [text, prompt] : prompts_) {
    if (prompt.workers == 0) continue;
    ++out.prompts;
    out.at_several += prompt.jobs.size() > 1 ? 1 : 0;
    out.refused += prompt.refused;
    out.workers_max = std::max(out.workers_max, prompt.workers);
  }
  return out;
}

}  // namespace orch::sim
