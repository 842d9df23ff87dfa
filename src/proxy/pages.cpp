#include "proxy/pages.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "http/url.hpp"
#include "proxy/target.hpp"

namespace sluice::proxy {
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

void sort_names(std::vector<std::string>& names) {
  std::sort(names.begin(), names.end(), in_lexical_order);
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

Result<PageRequest> parse_page(std::string_view query) {
  PageRequest out;
  out.last = query_parameter(query, "last");
  const std::optional<std::string> n = find_query_parameter(query, "n");
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

Page page_of(const std::vector<std::string>& sorted, const PageRequest& asked, std::size_t limit) {
  auto first = sorted.begin();
  if (!asked.last.empty()) first = std::upper_bound(sorted.begin(), sorted.end(), asked.last, in_lexical_order);
  const auto left = static_cast<std::size_t>(sorted.end() - first);
  const std::size_t count = std::min({left, asked.n.value_or(limit), limit});
  Page page;
  page.names.assign(first, first + static_cast<std::ptrdiff_t>(count));
  page.more = count != 0 && count < left;
  return page;
}

std::string link_field(std::string_view path, std::string_view ns, const PageRequest& asked, const Page& page) {
  if (!page.more) return {};
  std::string out =
      fmt::format("Link: <{}?n={}&last={}", path, std::min(asked.n.value_or(page.names.size()), page.names.size()),
                  http::percent_encode(page.names.back()));
  if (!ns.empty()) out += "&ns=" + http::percent_encode(ns);
  return out + ">; rel=\"next\"\r\n";
}

}  // namespace sluice::proxy
