#include "descriptors/rights_marks.hpp"

#include <array>
#include <span>
#include <stdexcept>
#include <utility>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <fmt/format.h>

namespace sluice::descriptors {
namespace {

constexpr std::size_t kBytes = 16;  // of the key, and of what is kept of the hash

std::string hex(std::span<const unsigned char> bytes) { return fmt::format("{:02x}", fmt::join(bytes, "")); }

// The hex of the key is the key: it is as random.
std::string mark_of(std::string_view key, std::string_view rights) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned length = 0;
  const bool made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(rights.data()), rights.size(), hash.data(), &length) != nullptr;
  if (!made || length < kBytes) throw std::runtime_error("HMAC-SHA256 failed");
  return std::string(key) + "." + hex(std::span(hash).first(kBytes));
}

}  // namespace

std::string RightsMarks::make(std::string_view rights) {
  std::array<unsigned char, kBytes> key{};
  if (RAND_priv_bytes(key.data(), static_cast<int>(key.size())) != 1) {
    throw std::runtime_error("no random key can be drawn");
  }
  return mark_of(hex(key), rights);
}

bool RightsMarks::fits(std::string_view mark, std::string_view rights) {
  constexpr std::size_t kKeyDigits = 2 * kBytes;
  if (mark.size() != 2 * kKeyDigits + 1 || mark[kKeyDigits] != '.') return false;
  const std::string own = mark_of(mark.substr(0, kKeyDigits), rights);
  return CRYPTO_memcmp(own.data(), mark.data(), own.size()) == 0;
}

void RightsMarks::set(Table table) {
  const std::scoped_lock lock(mutex_);
  table_.swap(table);
}

const RightsMarks::Upstream* RightsMarks::find(const Scope& scope) const {
  const std::string_view whole = scope.str();
  const auto at = table_.find(whole.substr(0, whole.find('/')));
  return at == table_.end() ? nullptr : &at->second;
}

std::string RightsMarks::mark(const Scope& scope) const {
  const std::scoped_lock lock(mutex_);
  const Upstream* const upstream = find(scope);
  return upstream == nullptr ? std::string() : upstream->mark;
}

bool RightsMarks::counts(const Scope& scope, std::string_view mark) const {
  const std::scoped_lock lock(mutex_);
  const Upstream* const upstream = find(scope);
  if (upstream == nullptr || mark == upstream->mark) return true;
  return mark.empty() ? upstream->believes_unmarked : fits(mark, upstream->rights);
}

}  // namespace sluice::descriptors
