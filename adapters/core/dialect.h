// Purpose: what an adapter must know about one kind of engine, without any input or output: requests are encoded here,
// response bytes decoded, statuses judged. Pure. A bridge in shell/ moves the bytes and owns time.
// Ownership: a Conversation stands alone; it needs its Dialect only while it is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "worker/core/engine_port.h"

namespace orch::adapter {

using worker::EngineFailure;
using worker::EnginePrompt;
using worker::GenerationRequest;
using worker::GenerationResult;

struct HttpRequest {
  std::string path;
  std::string body;  // JSON; empty: GET
};

struct HttpReply {
  int status = 0;  // 0: no answer
  std::string body;
};

struct Started {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
};
struct Tokens {
  std::uint32_t index = 0;  // of the first token
  std::uint32_t count = 0;
  std::vector<std::uint32_t> ids;  // empty when the engine cannot be relied on to name all of them
  std::string text;
};
struct Counted {
  std::uint32_t tokens = 0;
  bool estimated = false;
};
using Event = std::variant<Started, Tokens, GenerationResult, Counted, EngineFailure>;

// GenerationResult, Counted and EngineFailure end a conversation.
inline bool is_terminal(const Event& event) { return event.index() >= 2; }

// One job or one count: HTTP exchanges in turn until a terminal event. For each exchange: next(), head(), body() any
// number of times, end().
class Conversation {
 public:
  virtual ~Conversation() = default;

  virtual HttpRequest next() = 0;
  // The exchange that next() began occupies a slot of the engine and answers piece by piece.
  virtual bool decoding() const = 0;
  virtual void head(int status) = 0;
  // After a terminal event nothing more comes, whatever is passed in.
  virtual void body(std::string_view bytes, std::vector<Event>& out) = 0;
  virtual void end(std::vector<Event>& out) = 0;
};

struct EngineView {
  enum class State : std::uint8_t { dead, loading, ready, refused };
  State state = State::dead;
  std::string detail;  // why it is not ready
  std::string engine_version;
  std::string model_name;
  std::string model_path;  // on the engine's machine
  std::string quant;
  std::uint32_t ctx_max = 0;
  std::uint32_t slots = 0;
  bool template_available = false;
  bool slots_visible = false;  // busy_slots() works: the end of a cancelled job can be confirmed
};

class Dialect {
 public:
  virtual ~Dialect() = default;

  virtual std::string engine() const = 0;
  virtual std::string sampler_profile_version() const = 0;

  // Or a failure that names the field this engine cannot honour: nothing is dropped silently.
  virtual Result<std::unique_ptr<Conversation>, EngineFailure> generate(const GenerationRequest& request) const = 0;
  virtual std::unique_ptr<Conversation> count(const EnginePrompt& prompt) const = 0;

  // GET requests whose replies, in order, tell what the engine is.
  virtual std::vector<HttpRequest> probes() const = 0;
  virtual EngineView read_probes(const std::vector<HttpReply>& replies) const = 0;

  virtual HttpRequest slots_probe() const = 0;
  virtual std::optional<std::uint32_t> busy_slots(const HttpReply& reply) const = 0;  // nullopt: it does not say
};

}  // namespace orch::adapter
