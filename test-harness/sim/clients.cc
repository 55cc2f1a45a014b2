#include "sim/clients.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "sim/script.h"

namespace orch::sim {

void Clients::fault(const std::string& what, JobId job) {
  world_.violation(what + " (job " + std::to_string(job.value.lo) + ")");
}

Clients::Case* Clients::alive(JobId id) {
  const auto it = cases_.find(id);
  if (it == cases_.end() || it->second.lost) return nullptr;
  return &it->second;
}

std::optional<JobId> Clients::submit(std::size_t index, const std::string& model, Manners manners) {
  SimGateway& gateway = *gateways_[index];
  if (gateway.core() == nullptr) return std::nullopt;
  Prng& rng = world_.rng();
  const bool plain = manners != Manners::any;
  const std::uint64_t number = next_++;
  const bool repeated = !poison_.empty();
  const bool poison = repeated || (!plain && mix(world_.seed() * 1'000'003 + number) % 100 == 0);
  const JobId id{{poison ? kPoisonJobs : kPlainJobs, number}};
  JobSpec spec;
  spec.id = id;
  spec.tenant = "t" + std::to_string(rng.below(3));
  spec.model_ref = rng.below(40) == 0 && !plain  ? "no-such-model"
                   : rng.below(6) == 0 && !plain ? "sha256:" + model
                                                 : model;
  spec.priority = rng.below(3) == 0 ? Priority::batch : Priority::interactive;
  spec.determinism = rng.below(10) == 0 ? Determinism::strict : Determinism::best_effort;
  spec.require_gpu = !plain && rng.below(12) == 0;
  spec.max_tokens = plain ? 12 : rng.below(20) == 0 ? 600 : max_tokens_;
  spec.prompt_bytes = rng.below(10) == 0 && !plain ? 180 + rng.below(300) : 10 + rng.below(120);
  spec.prompt_messages = static_cast<std::uint32_t>(rng.below(3));
  if (manners == Manners::steady) {
    spec.tenant = steady_tenant_;
    spec.priority = Priority::interactive;
    spec.determinism = Determinism::best_effort;
  }
  if (!plain && rng.below(8) == 0) spec.deadline = world_.between(Duration::milliseconds(100), Duration::seconds(8));
  const std::uint64_t kind = rng.below(4);
  spec.attachment = plain || kind == 0 ? Attachment::attached : kind == 1 ? Attachment::detached : Attachment::task;
  // Now and then an answer that no narrow buffer holds, for readers that come late (OC-JOB-1018).
  const bool followed = !plain && spec.attachment != Attachment::attached && mix(number) % 24 == 0;
  if (followed) spec.max_tokens = 80;
  // No two harmless prompts are alike: one that two workers died under is refused for a while (M6).
  auto payload = std::make_shared<JobPayload>();
  if (mix(number) % 4 == 0) payload->prompt.text = std::string(600, static_cast<char>('a' + number % 2));  // shared
  payload->prompt.text = repeated ? std::exchange(poison_, {}) : payload->prompt.text + id.to_string();
  if (poison) poisons_.submitted(id, payload->prompt.text, index);
  if (poison && !repeated) send_elsewhere(index, model, payload->prompt.text);
  spec.payload = std::move(payload);
  if (!plain && id.value.lo % 4 == 0) spec.session = "s" + std::to_string(id.value.lo / 50);

  Case each;
  each.gateway = index;
  each.tenant = spec.tenant;
  each.session = spec.session;
  each.boot = gateway.boot();
  each.attachment = spec.attachment;
  each.journaled = gateway.journals() && spec.attachment != Attachment::attached;
  each.request = {next_++};
  const std::uint32_t length = script_length(id, spec.max_tokens);
  for (std::uint32_t k = 0; k < length; ++k) each.script += script_text(id, k);
  if (spec.attachment == Attachment::attached) {
    each.reader = ReaderId{next_++};
    new_reader(*each.reader, id);
  }
  ++totals_.submitted;
  each.body = gateway::Submit{each.request, std::move(spec), each.reader};
  each.plain = plain;
  each.followed = followed;
  heads_[each.request] = id;
  const gateway::RequestHead head{each.request, each.tenant};
  cases_.emplace(id, std::move(each));
  gateway.event(head);
  if (!plain) behave(id);
  return id;
}

// What this client will do of its own accord.
void Clients::behave(JobId id) {
  const auto it = cases_.find(id);
  if (it == cases_.end()) return;
  Prng& rng = world_.rng();
  const Attachment attachment = it->second.attachment;
  if (it->second.followed) {
    for (const std::int64_t wait_ms : {100, 2000, 4000, 6000})
      world_.after(Duration::milliseconds(wait_ms), [this, id] { open(id, std::nullopt, {}); });
  }
  const auto later = [&](std::int64_t max_ms, void (Clients::*act)(JobId)) {
    world_.after(world_.between({}, Duration::milliseconds(max_ms)), [this, id, act] { (this->*act)(id); });
  };
  if (attachment != Attachment::attached && rng.below(4) != 0) {
    world_.after(world_.between({}, Duration::milliseconds(1500)), [this, id] { open(id, std::nullopt, {}); });
    if (rng.below(5) == 0) {  // a second reader of the same job
      world_.after(world_.between({}, Duration::milliseconds(3000)), [this, id] { open(id, std::nullopt, {}); });
    }
  }
  if (rng.below(5) == 0) later(4000, &Clients::leave);
  if (rng.below(7) == 0) later(4000, &Clients::cancel);
  if (rng.below(20) == 0) later(6000, &Clients::cancel);
  if (!it->second.session.empty() && rng.below(4) == 0) later(6000, &Clients::end_session);
}

void Clients::open(JobId id, std::optional<std::uint64_t> last_event_id, const View& view) {
  Case* each = alive(id);
  if (each == nullptr || !each->admitted) return;
  const ReaderId reader{next_++};
  each->reader = reader;
  new_reader(reader, id).view = view;
  gateways_[each->gateway]->event(gateway::OpenStream{reader, id, last_event_id});
}

Clients::Reader& Clients::new_reader(ReaderId id, JobId job) {
  Reader& reader = readers_[id];
  reader.job = job;
  if (!world_.healed() && world_.chance(world_.rates.slow_reader)) {
    world_.count(Fault::slow_reader);
    reader.pace = world_.between(Duration::milliseconds(30), Duration::milliseconds(800));
  }
  return reader;
}

void Clients::leave(JobId id) {
  Case* each = alive(id);
  if (each != nullptr && each->body) return drop(id);
  if (each != nullptr && each->reader) leave(*each->reader, world_.rng().below(6) == 0);
}

void Clients::leave(ReaderId id, bool overflowed) {
  Reader& reader = readers_[id];
  Case* each = alive(reader.job);
  if (each == nullptr || reader.closed) return;
  reader.closed = reader.left = true;
  gateways_[each->gateway]->event(gateway::ReaderGone{id, overflowed});
  // Most come back, before the grace is over or after it, and go on behind what they have seen.
  if (world_.rng().below(3) == 0) return;
  world_.after(world_.between({}, Duration::seconds(8)), [this, job = reader.job, view = reader.view] {
    open(job, view.last_id > 0 ? std::optional(view.last_id) : std::nullopt, view);
  });
}

// What the shell has written and this reader has not taken yet; past its buffer the shell cuts it off.
void Clients::read_slowly(ReaderId id) {
  constexpr std::uint32_t kBuffer = 6;
  Reader& reader = readers_[id];
  if (++reader.unread > kBuffer) return leave(id, true);
  world_.after(reader.pace * reader.unread, [this, id] { --readers_[id].unread; });
}

void Clients::cancel(JobId id) {
  Case* each = alive(id);
  if (each == nullptr || gateways_[each->gateway]->boot() != each->boot || gateways_[each->gateway]->core() == nullptr)
    return;
  const RequestId request{next_++};
  cancels_[request] = id;
  gateways_[each->gateway]->event(gateway::CancelJob{request, id});
}

void Clients::end_session(JobId id) {
  const Case* each = alive(id);
  if (each == nullptr || gateways_[each->gateway]->boot() != each->boot || gateways_[each->gateway]->core() == nullptr)
    return;
  const RequestId request{next_++};
  session_ends_[request] = id;
  world_.count(Fault::session_end);
  gateways_[each->gateway]->event(gateway::EndSession{request, each->tenant, each->session});
}

// --- what comes back ---

void Clients::receive(std::size_t gateway, const gateway::Effect& effect) {
  if (const auto* reply = std::get_if<gateway::HeadReply>(&effect)) return on(*reply);
  if (const auto* reply = std::get_if<gateway::AdmissionReply>(&effect)) return on(gateway, *reply);
  if (const auto* deliver = std::get_if<gateway::Deliver>(&effect)) return on(*deliver);
  if (const auto* await = std::get_if<gateway::AwaitReader>(&effect)) return on(*await);
  if (const auto* cut = std::get_if<gateway::CutReader>(&effect)) return leave(cut->reader, true);
  if (const auto* ended = std::get_if<gateway::NotedEnded>(&effect)) return on(*ended);
  if (const auto* opened = std::get_if<gateway::StreamOpened>(&effect)) {
    Reader& reader = readers_[opened->reader];
    if (reader.open) fault("a stream was opened twice", opened->job);
    reader.open = true;
  } else if (const auto* refused = std::get_if<gateway::StreamRefused>(&effect)) {
    Reader& reader = readers_[refused->reader];
    if (reader.open) fault("a stream was refused after it was opened", reader.job);
    // OC-JOB-1018: no answer here is so long that the journal gives up what it could not write.
    if (cases_.at(reader.job).journaled && refused->failure.outcome == Outcome::SLOW_CONSUMER)
      fault("a reader is refused what the journal keeps", reader.job);
    reader.closed = true;
  } else if (const auto* closed = std::get_if<gateway::StreamClosed>(&effect)) {
    Reader& reader = readers_[closed->reader];
    if (!reader.left && (reader.closed || !reader.open))
      fault("a stream was closed twice or before it was opened", reader.job);
    reader.closed = true;
  } else if (const auto* cancelled = std::get_if<gateway::CancelReply>(&effect)) {
    if (cancels_.erase(cancelled->request) == 0) world_.violation("a cancel was answered twice");
  } else if (const auto* session = std::get_if<gateway::SessionEnded>(&effect)) {
    if (session_ends_.erase(session->request) == 0) world_.violation("the end of a session was answered twice");
  } else if (const auto* recovered = std::get_if<gateway::NotedRecovered>(&effect)) {
    const auto each = cases_.find(recovered->job);
    if (each == cases_.end()) return fault("a job was found on the disk that nobody submitted", recovered->job);
    if (recovered->way == gateway::NotedRecovered::Way::replayed) each->second.ended_on_disk = true;
  } else if (std::holds_alternative<gateway::NotedRetried>(effect)) {
    ++totals_.retried;
  } else if (std::holds_alternative<gateway::NotedPreempted>(effect)) {
    ++totals_.preempted;
  }
}

void Clients::on(std::size_t, const gateway::AdmissionReply& reply) {
  const auto request = requests_.find(reply.request);
  if (request == requests_.end()) return world_.violation("a submission was answered twice or never made");
  const JobId id = request->second;
  requests_.erase(request);
  Case& each = cases_.at(id);
  const auto* failure = std::get_if<gateway::Failure>(&reply.result);
  if (reply.request != each.request) {  // the repeated id
    if (failure != nullptr) return;
    if (each.admitted) return fault("the same id was admitted twice", id);
    each.admitted = true;  // the first was refused: a new job of that id
    ++totals_.admitted;
    return;
  }
  if (failure != nullptr) return refused(id, *failure);
  each.answered = true;
  each.admitted = true;
  ++totals_.admitted;
}

// The portion has left for the reader; it may have gone meanwhile.
void Clients::on(const gateway::AwaitReader& await) {
  const Reader& reader = readers_[await.reader];
  const Duration takes = reader.pace.ns > 0 ? reader.pace : Duration::milliseconds(3);
  world_.after(takes, [this, id = await.reader] {
    const Reader& now = readers_[id];
    Case* each = alive(now.job);
    if (each != nullptr && !now.closed) gateways_[each->gateway]->event(gateway::ReaderDrained{id});
  });
}

void Clients::on(const gateway::Deliver& deliver) {
  Reader& reader = readers_[deliver.reader];
  const gateway::StreamEvent& event = *deliver.event;
  if (reader.left) return;
  if (!reader.open || reader.closed) return fault("an event on a stream that is not open", reader.job);
  View& view = reader.view;
  if (view.terminal) return fault("an event after the terminal one", reader.job);
  if (reader.pace.ns > 0) read_slowly(deliver.reader);
  if (event.id == 0) {
    if (!std::holds_alternative<gateway::MetricsEvent>(event.body)) fault("an event without an id", reader.job);
    if (view.last_id == 0) fault("metrics before started", reader.job);
    return;
  }
  // J4: after a restart the error stands behind every event that may have been sent and is not stored.
  const bool behind_all = cases_.at(reader.job).crossed && std::holds_alternative<gateway::ErrorEvent>(event.body) &&
                          event.id > view.last_id;
  if (event.id != view.last_id + 1 && !behind_all)
    return fault("stream ids jump from " + std::to_string(view.last_id) + " to " + std::to_string(event.id),
                 reader.job);
  view.last_id = event.id;
  const Case& each = cases_.at(reader.job);
  if (std::holds_alternative<gateway::StartedEvent>(event.body) != (event.id == 1))
    return fault("started is not the first event", reader.job);
  if (const auto* token = std::get_if<gateway::TokenEvent>(&event.body)) {
    if (token->i != view.token_events++) return fault("token events are not counted one by one", reader.job);
    if (each.script.compare(view.text, token->text.size(), token->text) != 0)
      return fault("a token that the script does not have there", reader.job);
    view.text += token->text.size();
  } else if (const auto* end = std::get_if<gateway::EndEvent>(&event.body)) {
    view.terminal = true;
    if (view.text != each.script.size()) fault("an end before the last token", reader.job);
    if (end->tokens_out == 0) fault("an end without tokens", reader.job);
  } else if (const auto* error = std::get_if<gateway::ErrorEvent>(&event.body)) {
    view.terminal = true;
    const OutcomeRow& row = outcome_row(error->failure.outcome);
    if (row.internal || !row.sse) fault("an error that no client may see: " + std::string(row.code), reader.job);
  }
}

void Clients::on(const gateway::NotedEnded& ended) {
  Case& each = cases_.at(ended.job);
  if (each.lost) return;  // nobody was told of its admission, and the journal had it
  if (!each.admitted) return fault("a job ended that was not admitted", ended.job);
  if (++each.ends > 1) return fault("a job ended twice", ended.job);
  each.well = !ended.failure;
  if (world_.tracing()) {
    world_.trace("clients", "job " + std::to_string(ended.job.value.lo) + " ends: " +
                                (ended.failure ? std::string(outcome_row(ended.failure->outcome).code) + ", " +
                                                     ended.failure->message
                                               : "well"));
  }
  if (ended.failure) {
    ++totals_.ended_in_error;
    ++totals_.errors[std::string(outcome_row(ended.failure->outcome).code)];
  } else {
    ++totals_.ended_well;
  }
}

void Clients::gateway_drained(std::size_t gateway) {
  for (const auto& [id, each] : cases_) {
    if (each.gateway != gateway || each.lost || !each.admitted || each.ends == 1 || each.crossed) continue;
    // An end that a failing disk did not take in time is the next life's to tell (J6).
    if (each.journaled && gateways_[gateway]->journal_has(id)) continue;
    fault("a gateway that says it is drained leaves a job", id);
  }
}

void Clients::gateway_crashed(std::size_t gateway) {
  const auto of_it = [&](const auto& entry) { return cases_.at(entry.second).gateway == gateway; };
  const auto given_up = [&](const auto& entry) { return of_it(entry) && cases_.at(entry.second).lost; };
  std::erase_if(heads_, of_it);
  std::erase_if(cancels_, given_up);
  std::erase_if(session_ends_, given_up);
  for (auto& [id, each] : cases_) {
    if (each.gateway != gateway || each.lost) continue;
    if (each.journaled && each.admitted) {
      outlive(id, each);
      continue;
    }
    each.lost = true;
    if (each.admitted && each.ends == 0) ++totals_.lost_with_gateway;
    if (each.reader) readers_[*each.reader].closed = true;
    std::erase_if(requests_, [&](const auto& entry) { return entry.second == id; });
    std::erase_if(cancels_, [&](const auto& entry) { return entry.second == id; });
    std::erase_if(session_ends_, [&](const auto& entry) { return entry.second == id; });
  }
}

// J1: what was admitted is on the disk, and its readers come back to the next life.
void Clients::outlive(JobId id, Case& each) {
  // An end that was found on the disk has been told by nobody, and is forgotten after a while.
  if (each.ends == 0 && !each.ended_on_disk && !gateways_[each.gateway]->journal_has(id))
    return fault("an admitted job is not in the journal of a gateway that died", id);
  each.crossed = true;
  ++totals_.taken_over;
  std::erase_if(cancels_, [&](const auto& entry) { return entry.second == id; });
  std::erase_if(session_ends_, [&](const auto& entry) { return entry.second == id; });
  if (!each.reader) return;
  Reader& reader = readers_[*each.reader];
  const bool was_closed = reader.closed;
  for (auto& [other_id, other] : readers_) {
    if (other.job == id) other.closed = other.left = true;
  }
  if (was_closed) return;
  world_.after(world_.between(Duration::milliseconds(100), Duration::seconds(8)), [this, id, view = reader.view] {
    open(id, view.last_id > 0 ? std::optional(view.last_id) : std::nullopt, view);
  });
}

std::string Clients::check_rest() const {
  for (const auto& [id, each] : cases_) {
    const std::string name = "job " + std::to_string(id.value.lo);
    if (each.lost) continue;
    if (!each.answered) return name + " was never answered";
    if (each.crossed && each.ends == 0) {  // it may have ended on the disk, and be forgotten since
      const gateway::Orchestrator* core = gateways_[each.gateway]->core();
      const gateway::Job* job = core == nullptr ? nullptr : core->find_job(id);
      if (job != nullptr && job->state != gateway::JobState::ended) return name + " was taken over and has not ended";
      continue;
    }
    if (each.admitted && each.ends != 1)
      return name + " was admitted and ended " + std::to_string(each.ends) + " times";
  }
  if (!heads_.empty()) return "the head of a request was never answered";
  if (!requests_.empty()) return "a submission was never answered";
  if (!cancels_.empty()) return "a cancel was never answered";
  if (!session_ends_.empty()) return "the end of a session was never answered";
  for (const auto& [id, reader] : readers_) {
    const auto each = cases_.find(reader.job);
    if (each == cases_.end() || each->second.lost || !reader.open || reader.closed) continue;
    return "a reader of job " + std::to_string(reader.job.value.lo) + " was never closed";
  }
  return {};
}

bool Clients::was_refused(JobId job) const {
  const auto it = cases_.find(job);
  return it != cases_.end() && it->second.answered && !it->second.admitted;
}

bool Clients::ended_well(JobId job) const {
  const auto it = cases_.find(job);
  return it != cases_.end() && (it->second.well || it->second.lost);
}

}  // namespace orch::sim
