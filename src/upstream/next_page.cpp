#include "upstream/next_page.hpp"

#include <algorithm>
#include <string_view>

namespace sluice::upstream {
namespace {

// The last two parts of a path: what tells one kind of list from another.
std::string_view last_two(std::string_view path) {
  const std::size_t last = path.rfind('/');
  if (last == std::string_view::npos || last == 0) return path;
  const std::size_t before = path.rfind('/', last - 1);
  return before == std::string_view::npos ? path : path.substr(before);
}

}  // namespace

std::string next_link(const http::ReceivedHead& head) {
  for (const auto& [name, value] : head.fields) {
    if (!http::same_field_name(name, "Link")) continue;
    const std::size_t open = value.find('<');
    const std::size_t close = value.find('>', open);
    if (close == std::string::npos) continue;
    const std::string_view parameters = std::string_view(value).substr(close + 1);
    const bool is_next = parameters.find("rel=\"next\"") != std::string_view::npos ||
                         parameters.find("rel=next") != std::string_view::npos;
    if (is_next) return value.substr(open + 1, close - open - 1);
  }
  return {};
}

Result<std::string> next_page(http::Url base, const std::string& prefix, const std::string& path,
                              const std::string& link) {
  base.target = prefix + path;
  const Result<http::Url> next = base.resolve(link);
  if (!next) return next.error().in("Link to the next page");
  std::string_view target = next->target;
  if (target.starts_with(prefix + "/v2/")) target.remove_prefix(prefix.size());
  const std::size_t query = std::min(target.find('?'), target.size());
  const std::string own = path.substr(0, path.find('?'));
  if (last_two(target.substr(0, query)) == last_two(own)) return own + std::string(target.substr(query));
  if (!target.starts_with("/v2/")) {
    return Error(Errc::upstream_protocol, "the Link to its next page leads away from the registry's path");
  }
  return std::string(target);
}

}  // namespace sluice::upstream
