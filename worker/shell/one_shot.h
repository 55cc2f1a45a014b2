// `workerd --generate` and `--embed`: answers on standard output, without any service.
#pragma once

#include <optional>
#include <string>

#include "worker/core/engine_port.h"

namespace orch::worker {

// Blocks until the engine is ready or has failed. False: failed, the message is on standard error.
bool wait_ready(const GenerationEngine& engine);

// Streams the text to standard output and a line of numbers to standard error. Returns the exit code.
int generate_once(GenerationEngine& engine, GenerationRequest request);

// One text a line of standard input; of each its vector as one line of numbers that a reader gets back exactly. Returns
// the exit code.
int embed_lines(GenerationEngine& engine, std::optional<Pooling> pooling);

}  // namespace orch::worker
