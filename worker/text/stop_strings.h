// Ends a text at the first of several stop strings, also when one spans token borders: text that may still be the
// beginning of a stop string is held back. The stop string itself is not part of the text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace orch::worker {

class StopStrings {
 public:
  // Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stops);

  struct Released {
    std::string text;
    bool stopped = false;  // a stop string was found; nothing is released after this
  };
  // Takes whole code points; releases whole code points.
  Released push(std::string_view text);

  // End of the text without a stop string: what was held back.
  std::string finish();

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace orch::worker
