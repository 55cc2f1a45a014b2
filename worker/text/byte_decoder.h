// Token bytes in, whole code points out: text is released only when its UTF-8 is complete, so no code point is ever
// split over two token batches. Bytes that can no longer become a code point turn into U+FFFD.
#pragma once

#include <string>
#include <string_view>

namespace orch::worker {

class ByteDecoder {
 public:
  // Returns what the bytes so far complete; at most 3 bytes stay behind.
  std::string push(std::string_view bytes);

  // End of the text: what stayed behind becomes one U+FFFD.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace orch::worker
