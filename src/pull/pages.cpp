#include "pull/pages.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "http/query.hpp"
#include "http/url.hpp"

namespace sluice::pull {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool in_lexical_order(std::string_view a, std::string_view b) noexcept {
  const auto differs =
      std::mismatch(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
  if (differs.first != a.end() && differs.second != b.end()) return lower(*differs.first) < lower(*differs.second);
  if (a.size() != b.size()) return a.size() < b.size();
  return a < b;
}

Result<PageRequest> parse_page(std::string_view query) {
  PageRequest out;
  out.last = http::query_parameter(query, "last");
  const std::optional<std::string> n = http::find_query_parameter(query, "n");
  if (!n) return out;
  std::size_t number = 0;
  const auto [end, ec] = std::from_chars(n->data(), n->data() + n->size(), number);
  if (ec == std::errc::result_out_of_range) {
    number = std::numeric_limits<std::size_t>::max();
  } else if (ec != std::errc{} || end != n->data() + n->size()) {
    return Error{Errc::pagination_invalid, "n is the number of names on a page"};
  }
  out.n = number;
  return out;
}

std::string link_field(std::string_view path, std::string_view ns, const PageRequest& asked, const Page& page) {
  if (!page.more) return {};
  std::string out = fmt::format("Link: <{}?n={}&last={}", path, std::min(asked.n.value_or(page.count), page.count),
                                http::percent_encode(page.last));
  if (!ns.empty()) out += "&ns=" + http::percent_encode(ns);
  return out + ">; rel=\"next\"\r\n";
}

}  // namespace sluice::pull
