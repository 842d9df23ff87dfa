// Pages of a list, as tags/list and _catalog have them: `n` items behind `last`, and where the next page is. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace sluice::proxy {

// The order of tags: alphanumeric without regard to case (distribution-spec, "Listing Tags"); what differs in case
// alone is in the order of its bytes, so that no two names are equal.
bool in_lexical_order(std::string_view a, std::string_view b) noexcept;

// In that order, each once.
void sort_names(std::vector<std::string>& names);

struct PageRequest {
  std::optional<std::size_t> n;
  std::string last;  // empty: from the beginning
};
// Errors: pagination_invalid, for an `n` that is not a number.
Result<PageRequest> parse_page(std::string_view query);

struct Page {
  std::vector<std::string> names;
  bool more = false;  // there are further ones, and some were asked for
};
// `sorted` is what sort_names made. A page has at most `limit` names, whatever was asked for.
Page page_of(const std::vector<std::string>& sorted, const PageRequest& asked, std::size_t limit);

// The Link field (RFC 8288) to the page behind `page`, a complete line; empty where there is none. `path` and `ns` are
// those of the request.
std::string link_field(std::string_view path, std::string_view ns, const PageRequest& asked, const Page& page);

}  // namespace sluice::proxy
