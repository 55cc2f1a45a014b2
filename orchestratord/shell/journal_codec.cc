#include "orchestratord/shell/journal_codec.h"

#include <bit>
#include <cstdint>
#include <utility>

namespace orch::gateway::journal_codec {
namespace {

constexpr std::uint8_t kVersion = 2;

class Writer {
 public:
  Writer() { out_.push_back(static_cast<char>(kVersion)); }
  Writer& number(std::uint64_t value) {
    while (value >= 0x80) {
      out_.push_back(static_cast<char>(value | 0x80));
      value >>= 7;
    }
    out_.push_back(static_cast<char>(value));
    return *this;
  }
  Writer& signed_number(std::int64_t value) {
    return number((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
  }
  Writer& text(std::string_view value) {
    number(value.size());
    out_.append(value);
    return *this;
  }
  Writer& real(float value) { return number(std::bit_cast<std::uint32_t>(value)); }
  Writer& flag(bool value) { return number(value ? 1 : 0); }
  Writer& duration(Duration value) { return signed_number(value.ns); }
  Writer& optional(const std::optional<Duration>& value) {
    flag(value.has_value());
    return value ? duration(*value) : *this;
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Once something does not fit, everything after it reads as zero and whole() is false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {
    if (rest_.empty() || static_cast<std::uint8_t>(rest_.front()) != kVersion)
      fail();
    else
      rest_.remove_prefix(1);
  }
  bool whole() const { return ok_ && rest_.empty(); }
  bool ok() const { return ok_; }
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<std::uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return ok_ ? value : 0;
    }
    fail();
    return 0;
  }
  // At most `max`; anything larger cannot have been written.
  template <typename T>
  T number(std::uint64_t max) {
    const std::uint64_t value = number();
    if (value > max) fail();
    return static_cast<T>(value > max ? 0 : value);
  }
  std::uint32_t number32() { return number<std::uint32_t>(0xFFFF'FFFF); }
  std::int64_t signed_number() {
    const std::uint64_t value = number();
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
  }
  std::string text() {
    const std::uint64_t size = number();
    if (size > rest_.size()) {
      fail();
      return {};
    }
    std::string out(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return out;
  }
  float real() { return std::bit_cast<float>(number32()); }
  bool flag() { return number<std::uint32_t>(1) != 0; }
  Duration duration() { return {signed_number()}; }
  std::optional<Duration> optional() { return flag() ? std::optional(duration()) : std::nullopt; }
  // A count of things that take at least one byte each.
  std::size_t count() { return number<std::size_t>(rest_.size()); }

 private:
  void fail() {
    ok_ = false;
    rest_ = {};
  }
  std::string_view rest_;
  bool ok_ = true;
};

void write_uuid(Writer& out, const Uuid& id) { out.number(id.hi).number(id.lo); }
Uuid read_uuid(Reader& in) {
  const std::uint64_t hi = in.number();
  return {hi, in.number()};
}

void write_failure(Writer& out, const Failure& failure) {
  out.text(outcome_row(failure.outcome).code).text(failure.message).text(failure.field).optional(failure.retry_after);
  out.text(failure.policy_label).text(failure.engine).text(failure.pool_id).flag(failure.poisoned);
}
Failure read_failure(Reader& in) {
  Failure out;
  out.outcome = outcome_from_code(in.text()).value_or(Outcome::INTERNAL);
  out.message = in.text();
  out.field = in.text();
  out.retry_after = in.optional();
  out.policy_label = in.text();
  out.engine = in.text();
  out.pool_id = in.text();
  out.poisoned = in.flag();
  return out;
}

void write_payload(Writer& out, const JobPayload& payload) {
  out.number(payload.prompt.messages.size());
  for (const ChatMessage& message : payload.prompt.messages) out.text(message.role).text(message.content);
  out.text(payload.prompt.text);
  const Sampling& sampling = payload.sampling;
  out.real(sampling.temperature).number(sampling.top_k).real(sampling.top_p).real(sampling.min_p).number(sampling.seed);
  out.number(payload.stop.size());
  for (const std::string& stop : payload.stop) out.text(stop);
  out.real(sampling.repetition_penalty).real(sampling.frequency_penalty).real(sampling.presence_penalty);
  out.number(sampling.choice).number(sampling.logit_bias.size());
  for (const LogitBias& bias : sampling.logit_bias) out.number(bias.id).real(bias.bias);
  out.flag(payload.log_probs.has_value()).number(payload.log_probs.value_or(0));
  out.flag(payload.constraint.has_value());
  if (payload.constraint)
    out.number(static_cast<std::uint64_t>(payload.constraint->kind)).text(payload.constraint->text);
}
JobPayload read_payload(Reader& in) {
  JobPayload out;
  for (std::size_t n = in.count(); in.ok() && n > 0; --n) {
    std::string role = in.text();
    out.prompt.messages.push_back({std::move(role), in.text()});
  }
  out.prompt.text = in.text();
  out.sampling.temperature = in.real();
  out.sampling.top_k = in.number32();
  out.sampling.top_p = in.real();
  out.sampling.min_p = in.real();
  out.sampling.seed = in.number();
  for (std::size_t n = in.count(); in.ok() && n > 0; --n) out.stop.push_back(in.text());
  out.sampling.repetition_penalty = in.real();
  out.sampling.frequency_penalty = in.real();
  out.sampling.presence_penalty = in.real();
  out.sampling.choice = in.number32();
  for (std::size_t n = in.count(); in.ok() && n > 0; --n) {
    const std::uint32_t id = in.number32();
    out.sampling.logit_bias.push_back({id, in.real()});
  }
  const bool log_probs = in.flag();
  const std::uint32_t top = in.number32();
  if (log_probs) out.log_probs = top;
  if (in.flag()) {
    const auto kind = in.number<grammar::ConstraintKind>(static_cast<std::uint64_t>(grammar::ConstraintKind::gbnf));
    out.constraint = grammar::Constraint{kind, in.text()};
  }
  return out;
}

void write_scored(Writer& out, const ScoredToken& scored) {
  out.number(scored.id).real(scored.log_probability).text(scored.bytes);
}
ScoredToken read_scored(Reader& in) {
  ScoredToken out;
  out.id = in.number32();
  out.log_probability = in.real();
  out.bytes = in.text();
  return out;
}

void write_log_probs(Writer& out, const std::vector<TokenLogProbs>& log_probs) {
  out.number(log_probs.size());
  for (const TokenLogProbs& each : log_probs) {
    write_scored(out, each.token);
    out.number(each.top.size());
    for (const ScoredToken& top : each.top) write_scored(out, top);
  }
}
std::vector<TokenLogProbs> read_log_probs(Reader& in) {
  std::vector<TokenLogProbs> out;
  for (std::size_t n = in.count(); in.ok() && n > 0; --n) {
    TokenLogProbs& each = out.emplace_back();
    each.token = read_scored(in);
    for (std::size_t top = in.count(); in.ok() && top > 0; --top) each.top.push_back(read_scored(in));
  }
  return out;
}

void write_spec(Writer& out, const JobSpec& spec) {
  write_uuid(out, spec.id.value);
  out.text(spec.tenant).text(spec.session).text(spec.model_ref);
  out.number(static_cast<std::uint64_t>(spec.priority)).number(static_cast<std::uint64_t>(spec.determinism));
  out.number(static_cast<std::uint64_t>(spec.attachment)).flag(spec.require_gpu).number(spec.max_tokens);
  out.optional(spec.deadline).number(spec.prompt_bytes).number(spec.prompt_messages).flag(spec.store);
  const bool payload = spec.store && spec.payload != nullptr;
  out.flag(payload);
  if (payload) write_payload(out, *spec.payload);
}
JobSpec read_spec(Reader& in) {
  JobSpec out;
  out.id = {read_uuid(in)};
  out.tenant = in.text();
  out.session = in.text();
  out.model_ref = in.text();
  out.priority = in.number<Priority>(1);
  out.determinism = in.number<Determinism>(1);
  out.attachment = in.number<Attachment>(2);
  out.require_gpu = in.flag();
  out.max_tokens = in.number32();
  out.deadline = in.optional();
  out.prompt_bytes = in.number();
  out.prompt_messages = in.number32();
  out.store = in.flag();
  if (in.flag()) out.payload = std::make_shared<const JobPayload>(read_payload(in));
  return out;
}

constexpr std::uint32_t kWishNamesMax = 16;  // of each list, as the contract has it

void write_wish(Writer& out, const PlacementWish& wish) {
  out.text(wish.pin).flag(wish.allow_fallback);
  for (const auto* list : {&wish.prefer, &wish.avoid, &wish.devices}) {
    out.number(list->size());
    for (const std::string& name : *list) out.text(name);
  }
}

PlacementWish read_wish(Reader& in) {
  PlacementWish wish;
  wish.pin = in.text();
  wish.allow_fallback = in.flag();
  for (auto* list : {&wish.prefer, &wish.avoid, &wish.devices}) {
    const auto size = in.number<std::uint32_t>(kWishNamesMax);
    for (std::uint32_t i = 0; i < size; ++i) list->push_back(in.text());
  }
  return wish;
}

}  // namespace

std::string encode_id(const Uuid& id) {
  std::string out(16, '\0');
  for (unsigned i = 0; i < 8; ++i) {
    out[i] = static_cast<char>(id.hi >> (56 - 8 * i));
    out[8 + i] = static_cast<char>(id.lo >> (56 - 8 * i));
  }
  return out;
}

std::optional<Uuid> decode_id(std::string_view bytes) {
  if (bytes.size() != 16) return std::nullopt;
  Uuid out;
  for (unsigned i = 0; i < 8; ++i) {
    out.hi = (out.hi << 8) | static_cast<std::uint8_t>(bytes[i]);
    out.lo = (out.lo << 8) | static_cast<std::uint8_t>(bytes[8 + i]);
  }
  return out;
}

// The whole of it, so that a replay says what was said.
void write_started(Writer& out, const StartedEvent& started) {
  out.number(started.queue_position).duration(started.predicted_start).flag(started.estimated);
  out.flag(started.on_time_probability.has_value());
  out.number(std::bit_cast<std::uint64_t>(started.on_time_probability.value_or(0)));
}

StartedEvent read_started(Reader& in) {
  StartedEvent out;
  out.queue_position = in.number32();
  out.predicted_start = in.duration();
  out.estimated = in.flag();
  const bool promised = in.flag();
  const double probability = std::bit_cast<double>(in.number());
  if (promised) out.on_time_probability = probability;
  return out;
}

std::string encode_admit(const AdmitRecord& record) {
  Writer out;
  write_spec(out, record.spec);
  const Lane& lane = record.lane;
  out.text(lane.model).text(lane.digest).flag(lane.require_gpu).flag(lane.strict).text(lane.exact);
  write_wish(out, lane.wish);
  out.text(record.pool_id).text(record.engine).text(record.engine_version);
  write_started(out, record.started);
  return out.take();
}

std::optional<AdmitRecord> decode_admit(std::string_view bytes) {
  Reader in(bytes);
  AdmitRecord out;
  out.spec = read_spec(in);
  out.lane.model = in.text();
  out.lane.digest = in.text();
  out.lane.require_gpu = in.flag();
  out.lane.strict = in.flag();
  out.lane.exact = in.text();
  out.lane.wish = read_wish(in);
  out.spec.wish = out.lane.wish;
  out.pool_id = in.text();
  out.engine = in.text();
  out.engine_version = in.text();
  out.started = read_started(in);
  return in.whole() ? std::optional(std::move(out)) : std::nullopt;
}

std::string encode_dispatch(const DispatchRecord& record) {
  const ServedBy& by = record.served_by;
  Writer out;
  out.number(record.attempt).text(by.model_name).text(by.model_digest).text(by.engine).text(by.engine_version);
  out.text(by.numeric_class).text(by.accelerator).text(by.replica_id).text(record.replica_set);
  return out.take();
}

std::optional<DispatchRecord> decode_dispatch(std::string_view bytes, JobId job) {
  Reader in(bytes);
  DispatchRecord out;
  out.job = job;
  out.attempt = in.number32();
  for (std::string* part :
       {&out.served_by.model_name, &out.served_by.model_digest, &out.served_by.engine, &out.served_by.engine_version,
        &out.served_by.numeric_class, &out.served_by.accelerator, &out.served_by.replica_id, &out.replica_set}) {
    *part = in.text();
  }
  return in.whole() ? std::optional(std::move(out)) : std::nullopt;
}

std::string encode_aboard(const AboardRecord& record) {
  Writer out;
  out.number(record.attempt).number(record.losses).number(record.deaths).flag(record.open);
  write_uuid(out, record.manager.value);
  out.text(record.replica_id).number(record.inc.boot).number(record.inc.counter);
  return out.take();
}

std::optional<AboardRecord> decode_aboard(std::string_view bytes, JobId job) {
  Reader in(bytes);
  AboardRecord out;
  out.job = job;
  out.attempt = in.number32();
  out.losses = in.number32();
  out.deaths = in.number32();
  out.open = in.flag();
  out.manager = {read_uuid(in)};
  out.replica_id = in.text();
  out.inc.boot = in.number();
  out.inc.counter = in.number();
  return in.whole() ? std::optional(std::move(out)) : std::nullopt;
}

std::string encode_managers(const std::vector<LeasingManager>& managers) {
  Writer out;
  out.number(managers.size());
  for (const LeasingManager& each : managers) {
    write_uuid(out, each.manager.value);
    out.duration(each.ttl);
  }
  return out.take();
}

std::optional<std::vector<LeasingManager>> decode_managers(std::string_view bytes) {
  Reader in(bytes);
  std::vector<LeasingManager> out;
  for (std::size_t left = in.count(); left > 0 && in.ok(); --left) {
    LeasingManager each;
    each.manager = {read_uuid(in)};
    each.ttl = in.duration();
    out.push_back(each);
  }
  return in.whole() ? std::optional(std::move(out)) : std::nullopt;
}

std::string encode_tokens(const TokenEvents& events) {
  Writer out;
  out.number(events.size());
  for (const auto& event : events) {
    const auto& token = std::get<TokenEvent>(event->body);
    out.number(event->id).number(token.i).number(token.ids.size());
    for (const std::uint32_t id : token.ids) out.number(id);
    out.text(token.text);
    write_log_probs(out, token.log_probs);
  }
  return out.take();
}

bool decode_tokens(std::string_view bytes, TokenEvents& out) {
  Reader in(bytes);
  TokenEvents events;
  for (std::size_t n = in.count(); in.ok() && n > 0; --n) {
    auto event = std::make_shared<StreamEvent>();
    TokenEvent token;
    event->id = in.number();
    token.i = in.number32();
    for (std::size_t ids = in.count(); in.ok() && ids > 0; --ids) token.ids.push_back(in.number32());
    token.text = in.text();
    token.log_probs = read_log_probs(in);
    event->body = std::move(token);
    events.push_back(std::move(event));
  }
  if (!in.whole()) return false;
  out.insert(out.end(), events.begin(), events.end());
  return true;
}

std::string encode_terminal(const StreamEvent& event) {
  Writer out;
  out.number(event.id);
  if (const auto* end = std::get_if<EndEvent>(&event.body)) {
    out.flag(true).number(static_cast<std::uint64_t>(end->reason)).number(end->prompt_tokens).number(end->tokens_out);
    out.flag(end->estimated).duration(end->decode).number(end->cached_prompt_tokens).flag(end->migrated);
  } else {
    const auto* error = std::get_if<ErrorEvent>(&event.body);
    out.flag(false);
    write_failure(out, error == nullptr ? Failure{} : error->failure);
  }
  return out.take();
}

std::shared_ptr<const StreamEvent> decode_terminal(std::string_view bytes) {
  Reader in(bytes);
  auto out = std::make_shared<StreamEvent>();
  out->id = in.number();
  if (in.flag()) {
    EndEvent end;
    end.reason = in.number<FinishReason>(1);
    end.prompt_tokens = in.number32();
    end.tokens_out = in.number32();
    end.estimated = in.flag();
    end.decode = in.duration();
    end.cached_prompt_tokens = in.number32();
    end.migrated = in.flag();
    out->body = end;
  } else {
    out->body = ErrorEvent{read_failure(in)};
  }
  return in.whole() ? out : nullptr;
}

std::string encode_started(const StartedEvent& event) {
  Writer out;
  write_started(out, event);
  return out.take();
}

std::optional<StartedEvent> decode_started(std::string_view bytes) {
  Reader in(bytes);
  const StartedEvent out = read_started(in);
  return in.whole() ? std::optional(out) : std::nullopt;
}

}  // namespace orch::gateway::journal_codec
