// Scope: which view of the world a descriptor is looked up in.
//
// The global scope (the empty text) knows a blob wherever it was seen. A repository's scope, "upstream/repository" as
// in "docker.io/library/busybox", knows only what upstream has said that this repository has: that is the access check.
//
// A value; read from any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace sluice::descriptors {

// A host name with a port, a slash and the longest repository name.
inline constexpr std::size_t kMaxScopeBytes = 259 + 1 + 255;

class Scope {
 public:
  // The global scope.
  Scope() = default;

  // A repository's scope. The grammar of names was checked by whoever parsed the request; here a text is refused when
  // it is empty (that would silently be the global scope), longer than kMaxScopeBytes, or not printable ASCII without
  // spaces (it becomes part of keys in databases). Errors: name_invalid.
  static Result<Scope> repository(std::string_view text);

  [[nodiscard]] bool is_global() const noexcept { return text_.empty(); }
  [[nodiscard]] const std::string& str() const noexcept { return text_; }

  friend bool operator==(const Scope&, const Scope&) = default;
  friend std::strong_ordering operator<=>(const Scope&, const Scope&) = default;

 private:
  explicit Scope(std::string_view text) : text_(text) {}
  std::string text_;
};

}  // namespace sluice::descriptors
