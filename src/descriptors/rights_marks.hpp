// RightsMarks: with which rights at an upstream an entry was learnt, for entries that outlive this process or that
// others read. A mark can be compared with what the rights hang on (the upstream's address, login and access), which
// cannot be read from it:
//
//   mark = key "." HMAC-SHA256(key, rights)      the key is random, 16 bytes; both in hex, the second cut to 16 bytes
//
// So processes that share a Redis need to share nothing else: who reads an entry compares its mark with its own rights.
// Those that were configured alike believe one another, others do not, whatever their clocks say.
//
// Thread-safe. Owned by the composition root.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "descriptors/scope.hpp"

namespace sluice::descriptors {

class RightsMarks {
 public:
  struct Upstream {
    std::string rights;               // what they hang on; a hash, where there are secrets in it
    bool believes_unmarked = true;    // what bears no mark counts (distribution's, an older version's)
    std::string mark = make(rights);  // of what is learnt now
  };
  using Table = std::map<std::string, Upstream, std::less<>>;  // by the upstream's name

  // Throws std::runtime_error when no key can be drawn.
  [[nodiscard]] static std::string make(std::string_view rights);
  [[nodiscard]] static bool fits(std::string_view mark, std::string_view rights);

  // All of them, from now on. Before the first call nothing is marked, and everything counts.
  void set(Table table);

  // Of what is learnt now for that scope; empty for none.
  [[nodiscard]] std::string mark(const Scope& scope) const;
  // Whether an entry of that scope with that mark, which is empty where it has none, was learnt with the rights of now.
  [[nodiscard]] bool counts(const Scope& scope, std::string_view mark) const;

 private:
  [[nodiscard]] const Upstream* find(const Scope& scope) const;

  mutable std::mutex mutex_;  // guards table_
  Table table_;
};

}  // namespace sluice::descriptors
