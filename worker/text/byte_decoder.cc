#include "worker/text/byte_decoder.h"

#include "worker/text/utf8.h"

namespace orch::worker {

std::string ByteDecoder::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  std::size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Step step = utf8_step(pending_, at);
    if (step.status == Utf8Status::incomplete) break;
    if (step.status == Utf8Status::valid) {
      out.append(pending_, at, step.bytes);
    } else {
      out += kReplacementCharacter;
    }
    at += step.bytes;
  }
  pending_.erase(0, at);
  return out;
}

std::string ByteDecoder::finish() {
  if (pending_.empty()) return {};
  pending_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace orch::worker
