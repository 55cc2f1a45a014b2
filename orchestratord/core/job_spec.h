// What a client asked for, validated by the shell against the contract, and what the core must know to decide about it.
// The prompt itself is opaque to the core: it is carried, never read.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/base/token_scores.h"
#include "common/grammar/constraint.h"

namespace orch {

enum class Priority : std::uint8_t { interactive, batch };
enum class Determinism : std::uint8_t { best_effort, strict };

struct ChatMessage {
  std::string role;
  std::string content;
};

// Exactly one of the two is used: `messages` non-empty, or `text`.
struct Prompt {
  std::vector<ChatMessage> messages;
  std::string text;
};

struct Sampling {
  float temperature = 1.0F;
  std::uint32_t top_k = 0;          // 0: off
  float top_p = 1.0F;               // 1: off
  float min_p = 0.0F;               // 0: off
  float repetition_penalty = 1.0F;  // 1: off
  float frequency_penalty = 0.0F;   // 0: off
  float presence_penalty = 0.0F;    // 0: off
  std::vector<LogitBias> logit_bias = {};
  std::uint32_t choice = 0;  // which of several answers to one prompt
  std::uint64_t seed = 0;    // 63 bits; the shell fills it (SHA-256 of the task id) when the client gave none
};

struct JobPayload {
  Prompt prompt;
  Sampling sampling;
  std::vector<std::string> stop;
  std::optional<std::uint32_t> log_probs = {};         // of every token, with so many of the likeliest
  std::optional<grammar::Constraint> constraint = {};  // what the text must be
};

// How the job is bound to its client (DESIGN-RULES "Jobs, streams, journal").
enum class Attachment : std::uint8_t {
  task,      // OrchQueue: posted, read later; canceled `reconnect_grace` after the last reader left
  detached,  // OrchQueue: runs with or without a reader
  attached,  // OpenAI: lives and dies with its one reader
};

// Idempotency-Key of a request (J5). The shell makes the digests; the core compares them.
struct Idempotency {
  std::array<std::uint8_t, 32> key{};   // SHA-256 of tenant and key
  std::array<std::uint8_t, 32> body{};  // SHA-256 of the body's bytes
};

// What a client asks of the choice of a replica (OC-CORE-1011, OC-CORE-1015). A name is that of a pool or of a replica.
// Lists are sorted and without repeats, so that equal wishes are equal.
struct PlacementWish {
  std::string pin = {};
  std::vector<std::string> prefer = {};
  std::vector<std::string> avoid = {};
  std::vector<std::string> devices = {};  // device names
  bool allow_fallback = true;             // others than the preferred will do
  bool empty() const { return pin.empty() && prefer.empty() && avoid.empty() && devices.empty(); }
  auto operator<=>(const PlacementWish&) const = default;
};

struct JobSpec {
  JobId id;
  std::string tenant = "default";
  std::string session;    // empty: none
  std::string model_ref;  // served name, or "sha256:<hex>"
  Priority priority = Priority::interactive;
  Determinism determinism = Determinism::best_effort;
  Attachment attachment = Attachment::task;
  bool require_gpu = false;
  PlacementWish wish;
  std::uint32_t max_tokens = 0;       // at least 1; the shell fills the contract's default
  std::optional<Duration> deadline;   // from admission
  std::uint64_t prompt_bytes = 0;     // content bytes, template not included
  std::uint32_t prompt_messages = 0;  // 0 for a plain text prompt
  std::optional<Idempotency> idempotency;
  bool store = true;  // false: the journal keeps no content of it (J7)
  std::shared_ptr<const JobPayload> payload;
};

}  // namespace orch
