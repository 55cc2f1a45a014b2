// Purpose: bearer keys from files (DESIGN ruling 8). Compared in constant time over digests, so neither the length nor
// a shared prefix of a guess shows in the time. Threads: read only after load. Keys are never printed: `fingerprint` is
// the first six hex digits of the key's SHA-256.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/entropy.h"

namespace orch::runtime {

class KeyRing {
 public:
  static constexpr std::size_t kKeyBytesMin = 16;
  static constexpr std::size_t kKeyBytesMax = 4096;

  struct File {
    std::string path;
    std::string owner;
    bool is_operator = false;
  };
  // One key per file, surrounding white space ignored; a key has one owner. The error names the file.
  static Result<KeyRing, std::string> load(const std::vector<File>& files);
  static Result<KeyRing, std::string> load(const std::vector<std::string>& files);

  bool empty() const { return keys_.empty(); }
  struct Caller {
    std::string fingerprint;
    std::string owner;
    bool is_operator = false;
  };
  // Whose key it is.
  std::optional<Caller> identify(std::string_view presented) const;
  // Fingerprint of the key that matches.
  std::optional<std::string> match(std::string_view presented) const;

 private:
  struct Key {
    Sha256 digest{};
    Caller caller;
  };
  std::vector<Key> keys_;
};

// Equal content, in a time that depends on the lengths only.
bool equal_in_constant_time(std::string_view a, std::string_view b);
// The token of "Bearer <token>"; empty when it is not that.
std::string_view bearer_token(std::string_view authorization);

}  // namespace orch::runtime
