// What a request must be like whatever else runs: each violation by its field and limit. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "worker/core/sequence.h"

namespace orch::worker {

struct RequestBounds {
  std::uint32_t vocabulary = 0;   // token ids are below it
  std::uint32_t context = 0;      // tokens of prompt and completion
  std::uint32_t pages_total = 0;  // KV pages there are
  std::uint32_t embedding = 0;    // floats of a hidden state; 0: the backend tells none
};

// Each of `ids` is one of the vocabulary's; the message begins with the kind that requests for scores promise.
Status<EngineFailure> check_ids(const std::vector<TokenId>& ids, const std::string& field, std::uint32_t vocabulary);

Status<EngineFailure> check_request(const SequenceRequest& request, const RequestBounds& bounds);

}  // namespace orch::worker
