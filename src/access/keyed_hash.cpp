#include "access/keyed_hash.hpp"

#include <stdexcept>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace sluice::access {

KeyedHash::KeyedHash() {
  if (RAND_priv_bytes(secret_.data(), static_cast<int>(secret_.size())) != 1) {
    throw std::runtime_error("no random key can be drawn");
  }
}

std::string KeyedHash::of(std::initializer_list<std::string_view> parts) const {
  std::string text;
  for (const std::string_view part : parts) text.append(part).append(1, '\0');
  std::string out(EVP_MAX_MD_SIZE, '\0');
  unsigned length = 0;
  const bool made = HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
                         reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                         reinterpret_cast<unsigned char*>(out.data()), &length) != nullptr;
  OPENSSL_cleanse(text.data(), text.size());
  // Without a hash there is nothing to recognise anybody by.
  if (!made || length != 32) throw std::runtime_error("HMAC-SHA256 failed");
  out.resize(length);
  return out;
}

}  // namespace sluice::access
