// What a mock engine does, out of a JSON file. Every key is optional; an unknown one is an error, so that a typo cannot
// turn a fault off. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/time.h"

namespace orch::adapter {

struct MockScript {
  enum class Fault : std::uint8_t {
    none,
    // after `fault_after` tokens of a job; the self-check is spared
    fail,       // the job fails with WORKER_RESET
    malformed,  // as an engine whose bytes cannot be read
    hang,       // no further token; a cancel still works
    die,        // the process ends with exit code 1
    // seen by the self-check
    no_decode,        // no job ever gives a token
    cancel_ignored,   // a cancel has no effect
    slot_leaked,      // a cancelled job stays in `running`
    counters_frozen,  // no counter moves
  };

  std::string text;          // said word by word; empty: pseudo-random words by seed
  std::uint32_t repeat = 1;  // how often the text is said; for answers larger than a script may be
  bool clock = false;        // a token's text is the clock of `runtime::now`, in ns, when it is given (latency_bench)
  std::string model_digest;
  std::uint32_t ctx_max = 4096;
  Duration load = {};
  std::string load_failure;
  Duration token_delay = Duration::milliseconds(2);
  Duration first_token_delay = {};  // as a long prompt would take; the self-check is spared
  Fault fault = Fault::none;
  std::uint32_t fault_after = 0;

  // The error names the key.
  static Result<MockScript, std::string> parse(std::string_view json);
};

}  // namespace orch::adapter
