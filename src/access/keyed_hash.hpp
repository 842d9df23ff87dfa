// KeyedHash: HMAC-SHA256 with a key that this process has drawn and that never leaves it. What must be recognised
// without being kept, such as a client's Authorization, is kept under it.
//
// Threads: thread-safe once made.
#pragma once

#include <array>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sluice::access {

class KeyedHash {
 public:
  // Throws std::runtime_error when no key can be drawn.
  KeyedHash();
  KeyedHash(const KeyedHash&) = delete;
  KeyedHash& operator=(const KeyedHash&) = delete;

  // 32 bytes. No part may hold a NUL, which separates them: a field's value holds none, nor do names.
  [[nodiscard]] std::string of(std::initializer_list<std::string_view> parts) const;

 private:
  std::array<unsigned char, 32> secret_{};
};

}  // namespace sluice::access
