#include "adapters/shell/model_digest.h"

#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <memory>
#include <vector>

#include "common/runtime/entropy.h"

namespace orch::adapter {

std::string model_digest(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::unique_ptr<EVP_MD_CTX, decltype(&::EVP_MD_CTX_free)> context(::EVP_MD_CTX_new(), &::EVP_MD_CTX_free);
  if (!file || context == nullptr || ::EVP_DigestInit_ex(context.get(), ::EVP_sha256(), nullptr) != 1) return {};
  std::vector<char> block(1024 * 1024);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    const auto count = static_cast<std::size_t>(file.gcount());
    if (count > 0 && ::EVP_DigestUpdate(context.get(), block.data(), count) != 1) return {};
  }
  if (!file.eof()) return {};
  std::array<std::uint8_t, 32> digest{};
  unsigned length = 0;
  if (::EVP_DigestFinal_ex(context.get(), digest.data(), &length) != 1 || length != digest.size()) return {};
  return "sha256:" + runtime::to_hex(digest);
}

}  // namespace orch::adapter
