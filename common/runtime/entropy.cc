#include "common/runtime/entropy.h"

#include <openssl/evp.h>
#include <sys/random.h>

#include <cerrno>

#include "common/base/check.h"

namespace orch::runtime {

void fill_random(std::span<std::uint8_t> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::getrandom(out.data() + done, out.size() - done, 0);
    if (got < 0 && errno == EINTR) continue;
    ORCH_CHECK(got > 0);
    done += static_cast<std::size_t>(got);
  }
}

std::uint64_t random_u64() {
  std::array<std::uint8_t, 8> bytes{};
  fill_random(bytes);
  std::uint64_t value = 0;
  for (const std::uint8_t byte : bytes) value = (value << 8) | byte;
  return value;
}

namespace {

// A system call per identity would be a tenth of a request's budget; one fills 256 of them. Per thread: no lock.
std::uint64_t pooled_u64() {
  thread_local std::array<std::uint8_t, 4096> pool;
  thread_local std::size_t used = pool.size();
  if (used == pool.size()) {
    fill_random(pool);
    used = 0;
  }
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) {
    value = (value << 8) | pool[used];
    pool[used++] = 0;
  }
  return value;
}

}  // namespace

Uuid random_uuid() {
  Uuid id{pooled_u64(), pooled_u64()};
  id.hi = (id.hi & ~0xF000ull) | 0x4000ull;
  id.lo = (id.lo & ~(3ull << 62)) | (2ull << 62);
  return id;
}

Secret random_secret() {
  Secret secret{};
  fill_random(secret);
  return secret;
}

Sha256 sha256(std::string_view bytes) {
  // SHA256() looks the algorithm up in its provider each time, which costs more than a short digest.
  static EVP_MD* const algorithm = ::EVP_MD_fetch(nullptr, "SHA256", nullptr);
  Sha256 digest{};
  ORCH_CHECK(algorithm != nullptr);
  ORCH_CHECK(::EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, algorithm, nullptr) == 1);
  return digest;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    out.push_back(kHex[byte >> 4]);
    out.push_back(kHex[byte & 0xF]);
  }
  return out;
}

std::uint64_t seed_of_task(std::string_view task_id) {
  const Sha256 digest = sha256(task_id);
  std::uint64_t low = 0;
  for (std::size_t i = digest.size() - 8; i < digest.size(); ++i) low = (low << 8) | digest[i];
  return low & ~(1ull << 63);
}

}  // namespace orch::runtime
