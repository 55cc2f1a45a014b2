#include "worker/model/file_digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>

namespace orch::worker {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{8} << 20;

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

Result<std::string, ModelError> sha256_of(std::span<const std::byte> bytes,
                                          const std::function<void(float)>& progress) {
  return sha256_of(std::span(&bytes, 1), progress);
}

Result<std::string, ModelError> sha256_of(std::span<const std::span<const std::byte>> parts,
                                          const std::function<void(float)>& progress) {
  const ModelError failed{ModelErrorKind::io, "model.digest", "SHA-256 is not available in this OpenSSL"};
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) return Err{failed};
  std::size_t total = 0;
  for (const std::span<const std::byte> bytes : parts) total += bytes.size();
  std::size_t done = 0;
  for (const std::span<const std::byte> bytes : parts) {
    for (std::size_t at = 0; at < bytes.size(); at += kChunkBytes) {
      const std::size_t size = std::min(kChunkBytes, bytes.size() - at);
      if (EVP_DigestUpdate(context.get(), bytes.data() + at, size) != 1) return Err{failed};
      done += size;
      if (progress) progress(static_cast<float>(done) / static_cast<float>(total));
    }
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(context.get(), digest.data(), &length) != 1 || length != 32) return Err{failed};
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text = "sha256:";
  for (unsigned int i = 0; i < length; ++i) {
    text += kHex[digest[i] >> 4];
    text += kHex[digest[i] & 15U];
  }
  return text;
}

}  // namespace orch::worker
