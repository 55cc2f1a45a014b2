#include "orchestratord/core/model_lifecycle.h"

#include <algorithm>
#include <array>

namespace orch::gateway {
namespace {

constexpr std::array<std::pair<ModelState, const char*>, 5> kStateNames{{{ModelState::draft, "draft"},
                                                                         {ModelState::active, "active"},
                                                                         {ModelState::canary, "canary"},
                                                                         {ModelState::deprecated, "deprecated"},
                                                                         {ModelState::retired, "retired"}}};

// FNV-1a, then splitmix64's finaliser: stable over processes, builds and machines. 0..9999.
std::uint32_t share_point(const std::string& name, const std::string& spread) {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  const auto add = [&](const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
    hash = (hash ^ 0xFF) * 0x100000001B3ull;
  };
  add(name);
  add(spread);
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9ull;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBull;
  return static_cast<std::uint32_t>((hash ^ (hash >> 31)) % 10'000);
}

Failure fault(Outcome outcome, std::string message, std::string field) {
  Failure out;
  out.outcome = outcome;
  out.message = std::move(message);
  out.field = std::move(field);
  return out;
}

// One that was retired is unloaded from then on, whichever way it leaves that state.
bool unloaded_behind(const ModelStanding& from, ModelState to) {
  return to != ModelState::retired && (from.unloaded || from.state == ModelState::retired);
}

}  // namespace

const char* model_state_name(ModelState state) {
  for (const auto& [each, name] : kStateNames) {
    if (each == state) return name;
  }
  return "?";
}

std::optional<ModelState> model_state_of(const std::string& name) {
  for (const auto& [state, each] : kStateNames) {
    if (name == each) return state;
  }
  return std::nullopt;
}

bool may_change(ModelState from, ModelState to) {
  switch (from) {
    case ModelState::draft:
      return to == ModelState::active || to == ModelState::canary || to == ModelState::retired;
    case ModelState::active:
      return to == ModelState::deprecated || to == ModelState::retired || to == ModelState::canary;
    case ModelState::canary:
      return to == ModelState::active || to == ModelState::draft || to == ModelState::retired ||
             to == ModelState::canary;  // another share
    case ModelState::deprecated:
      return to == ModelState::active || to == ModelState::retired;
    case ModelState::retired:
      return to == ModelState::draft;
  }
  return false;
}

ModelStanding ModelLifecycle::of(const ModelKey& model) const {
  const auto it = standings_.find(model);
  return it == standings_.end() ? ModelStanding{} : it->second;
}

ModelStandings ModelLifecycle::of_name(const std::string& name) const {
  ModelStandings out;
  for (auto it = standings_.lower_bound({name, {}}); it != standings_.end() && it->first.name == name; ++it)
    out.insert(*it);
  return out;
}

void ModelLifecycle::replace_name(const std::string& name, const ModelStandings& standings) {
  std::erase_if(standings_, [&](const auto& entry) { return entry.first.name == name; });
  standings_.insert(standings.begin(), standings.end());
  ++version_;
}

std::optional<Failure> ModelLifecycle::change(const ModelKey& model, ModelStanding to) {
  const ModelStanding from = of(model);
  if (!may_change(from.state, to.state)) {
    return fault(
        Outcome::CONFLICT,
        std::string("a model that is ") + model_state_name(from.state) + " cannot become " + model_state_name(to.state),
        "state");
  }
  if (to.state == ModelState::canary && (to.percent < 1 || to.percent > 100))
    return fault(Outcome::INVALID_PARAMS, "percent must be 1..100", "percent");
  if (to.state != ModelState::canary && to.percent != 0)
    return fault(Outcome::INVALID_PARAMS, "percent belongs to the state canary", "percent");
  if (!standings_.contains(model) && standings_.size() >= kModelsMax) {
    return fault(Outcome::ADMISSION_REJECT, "states of " + std::to_string(kModelsMax) + " models are kept already",
                 "name");
  }
  const ModelStandings now = of_name(model.name);
  if (to.state == ModelState::canary) {
    for (const auto& [other, standing] : now) {
      if (standing.state == ModelState::canary && other != model)
        return fault(Outcome::CONFLICT, "the name has a canary already: " + other.digest, "digest");
    }
  }
  before_[model.name] = now;
  to.unloaded = unloaded_behind(from, to.state);
  standings_[model] = to;
  ++version_;
  return std::nullopt;
}

// The state before becomes the state after: a second roll-back undoes the first.
std::optional<Failure> ModelLifecycle::roll_back(const std::string& name) {
  const auto before = before_.find(name);
  if (before == before_.end()) return fault(Outcome::NOT_FOUND, "no change of '" + name + "' is known", "name");
  const ModelStandings now = of_name(name);
  replace_name(name, before->second);
  for (auto& [model, standing] : standings_) {
    if (model.name == name) standing.unloaded = false;
  }
  for (const auto& [model, from] : now) {
    if (unloaded_behind(from, of(model).state)) standings_[model].unloaded = true;
  }
  before->second = now;
  return std::nullopt;
}

void ModelLifecycle::loaded(const ModelKey& model) {
  const auto standing = standings_.find(model);
  if (standing == standings_.end()) return;
  standing->second.unloaded = false;
  if (standing->second == ModelStanding{}) standings_.erase(standing);  // as if nobody had set it
}

bool ModelLifecycle::wanted(const ModelKey& model) const {
  const ModelState state = of(model).state;
  return state != ModelState::draft && state != ModelState::retired;
}

ModelLifecycle::Route ModelLifecycle::route(const Question& question) const {
  Route out;
  const auto judged = [&](const std::string& digest) {
    Route route;
    route.digest = digest;
    route.state = of({question.name, digest}).state;
    if (route.state == ModelState::draft) route.refused = Outcome::MODEL_NOT_FOUND;
    if (route.state == ModelState::retired) route.refused = Outcome::MODEL_DEPRECATED;
    if (route.state == ModelState::deprecated && !question.known_session) route.refused = Outcome::MODEL_DEPRECATED;
    return route;
  };
  if (!question.digest.empty()) return judged(question.digest);
  const ModelStandings set = of_name(question.name);
  if (set.empty()) return out;

  std::vector<std::string> active;
  std::optional<std::string> best;  // of the others, the state that serves most
  const auto rank = [&](const std::string& digest) {
    switch (of({question.name, digest}).state) {
      case ModelState::active:
      case ModelState::canary:
        return 0;
      case ModelState::deprecated:
        return 1;
      case ModelState::retired:
        return 2;
      case ModelState::draft:
        return 3;
    }
    return 4;
  };
  for (const std::string& digest : question.known) {
    const ModelStanding standing = of({question.name, digest});
    if (standing.state == ModelState::canary) {
      if (share_point(question.name, question.spread) < standing.percent * 100) return judged(digest);
      continue;
    }
    if (standing.state == ModelState::active) active.push_back(digest);
    if (!best || rank(digest) < rank(*best)) best = digest;
  }
  if (active.size() == question.known.size()) return out;  // nothing to choose between
  if (!active.empty()) {
    out.digest = *std::min_element(active.begin(), active.end());
    return out;
  }
  if (best) return judged(*best);
  // Only the canary is there: the others' share has nowhere to go but to it.
  for (const std::string& digest : question.known) return judged(digest);
  return out;
}

}  // namespace orch::gateway
