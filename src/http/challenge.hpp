// Challenge: what a server asks for before it answers (WWW-Authenticate, RFC 9110 section 11.6.1).
//
// A value and a pure function; bounded, reads what strangers wrote.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::http {

struct Challenge {
  std::string scheme;                                           // lowercase: "bearer", "basic"
  std::string token68;                                          // when it carries one instead of parameters
  std::vector<std::pair<std::string, std::string>> parameters;  // names lowercase, values without quotes and escapes

  // The first parameter of that (lowercase) name. Lives as long as this object.
  [[nodiscard]] std::optional<std::string_view> parameter(std::string_view name) const noexcept;

  friend bool operator==(const Challenge&, const Challenge&) = default;
};

// Reads one field value, which may hold several challenges. Never fails: reading ends where the grammar is broken and
// what stands before that counts. Forgiving where servers are careless: an unquoted value runs up to a comma or white
// space, whatever its characters.
std::vector<Challenge> parse_challenges(std::string_view value);

}  // namespace sluice::http
