#include "common/runtime/key_ring.h"

#include <fstream>
#include <sstream>

#include "common/runtime/http_message.h"

namespace orch::runtime {

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  // volatile: the loop must look at every byte even when the first differs.
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference =
        static_cast<unsigned char>(difference | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i])));
  }
  return difference == 0;
}

std::string_view bearer_token(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  if (!equals_ignoring_case(authorization.substr(0, kScheme.size()), kScheme)) return {};
  std::string_view token = authorization.substr(kScheme.size());
  while (token.starts_with(' ')) token.remove_prefix(1);
  return token.find_first_of(" \t") == std::string_view::npos ? token : std::string_view{};
}

Result<KeyRing, std::string> KeyRing::load(const std::vector<std::string>& files) {
  std::vector<File> owned;
  for (const std::string& file : files) owned.push_back({file, {}, true});
  return load(owned);
}

Result<KeyRing, std::string> KeyRing::load(const std::vector<File>& files) {
  KeyRing ring;
  for (const auto& [file, owner, is_operator] : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return Err{"key file cannot be read: " + file};
    std::string text(kKeyBytesMax + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    const std::size_t last = text.find_last_not_of(" \t\r\n");
    const std::string key = first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
    if (key.size() < kKeyBytesMin || text.size() > kKeyBytesMax) {
      return Err{"key must have " + std::to_string(kKeyBytesMin) + ".." + std::to_string(kKeyBytesMax) +
                 " bytes: " + file};
    }
    if (key.find_first_of(" \t\r\n") != std::string::npos) return Err{"key file holds more than one word: " + file};
    const Sha256 digest = sha256(key);
    for (const Key& known : ring.keys_) {
      if (known.digest == digest && (known.caller.owner != owner || known.caller.is_operator != is_operator))
        return Err{"the key has another owner already: " + file};
    }
    ring.keys_.push_back({digest, {to_hex(digest).substr(0, 6), owner, is_operator}});
  }
  return ring;
}

std::optional<std::string> KeyRing::match(std::string_view presented) const {
  auto caller = identify(presented);
  if (!caller) return std::nullopt;
  return std::move(caller->fingerprint);
}

std::optional<KeyRing::Caller> KeyRing::identify(std::string_view presented) const {
  const Sha256 digest = sha256(presented);
  const std::string_view wanted(reinterpret_cast<const char*>(digest.data()), digest.size());
  const Key* found = nullptr;
  for (const Key& key : keys_) {  // all of them, so that the time does not say which
    const std::string_view have(reinterpret_cast<const char*>(key.digest.data()), key.digest.size());
    if (equal_in_constant_time(wanted, have)) found = &key;
  }
  if (found == nullptr) return std::nullopt;
  return found->caller;
}

}  // namespace orch::runtime
