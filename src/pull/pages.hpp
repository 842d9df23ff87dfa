// Pages of a list, as tags/list and _catalog have them: `n` items behind `last`, and where the next page is. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice::pull {

// The order of tags: alphanumeric without regard to case (distribution-spec, "Listing Tags"); what differs in case
// alone is in the order of its bytes, so that no two names are equal.
bool in_lexical_order(std::string_view a, std::string_view b) noexcept;

struct PageRequest {
  std::optional<std::size_t> n;
  std::string last;  // empty: from the beginning
};
// Errors: pagination_invalid, for an `n` that is not a number.
Result<PageRequest> parse_page(std::string_view query);

// A piece of a NameList, which it points into.
struct Page {
  std::string_view names;  // as they stand in an array of JSON: `"a","b"`
  std::size_t count = 0;
  std::string_view last;  // the last of them
  bool more = false;      // there are further ones, and some were asked for
};

// The Link field (RFC 8288) to the page behind `page`, a complete line; empty where there is none. `path` and `ns` are
// those of the request.
std::string link_field(std::string_view path, std::string_view ns, const PageRequest& asked, const Page& page);

}  // namespace sluice::pull
