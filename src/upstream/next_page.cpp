#include "upstream/next_page.hpp"

#include <algorithm>
#include <string_view>

#include "base/ascii.hpp"

namespace sluice::upstream {
namespace {

// The last two parts of a path: what tells one kind of list from another.
std::string_view last_two(std::string_view path) {
  const std::size_t last = path.rfind('/');
  if (last == std::string_view::npos || last == 0) return path;
  const std::size_t before = path.rfind('/', last - 1);
  return before == std::string_view::npos ? path : path.substr(before);
}

// Up to one of `ends` that stands in no quoted string; takes it off `text`, and the end itself too.
std::string_view take_up_to(std::string_view& text, std::string_view ends) {
  bool quoted = false;
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    if (quoted && text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      quoted = !quoted;
    } else if (!quoted && ends.find(text[at]) != std::string_view::npos) {
      break;
    }
  }
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(std::min(taken.size() + 1, text.size()));
  return taken;
}

// Of the parameters of one link, `;rel="prev next";title=…`. The first `rel` counts (RFC 8288 section 3.3).
bool is_next(std::string_view parameters) {
  while (!parameters.empty()) {
    std::string_view value = take_up_to(parameters, ";");
    const std::string_view name = trim(take_up_to(value, "="));
    if (!http::same_field_name(name, "rel")) continue;
    value = trim(value);
    if (value.starts_with('"')) value.remove_prefix(1);
    if (value.ends_with('"')) value.remove_suffix(1);
    while (!value.empty()) {
      if (http::same_field_name(take_up_to(value, " \t"), "next")) return true;
    }
    return false;
  }
  return false;
}

}  // namespace

std::string next_link(const http::ReceivedHead& head) {
  for (const auto& [name, value] : head.fields) {
    if (!http::same_field_name(name, "Link")) continue;
    for (std::string_view rest = value; !rest.empty();) {
      // A comma may stand in the address too.
      rest.remove_prefix(std::min(rest.find('<'), rest.size()));
      const std::size_t close = rest.find('>');
      if (close == std::string_view::npos) break;
      const std::string_view target = rest.substr(1, close - 1);
      rest.remove_prefix(close + 1);
      if (is_next(take_up_to(rest, ","))) return std::string(target);
    }
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
  if (last_two(target.substr(0, query)) == last_two(own)) {
    std::string page = own + std::string(target.substr(query));
    if (page == path) return Error(Errc::upstream_protocol, "the Link to its next page leads to the same page");
    return page;
  }
  if (!target.starts_with("/v2/")) {
    return Error(Errc::upstream_protocol, "the Link to its next page leads away from the registry's path");
  }
  return std::string(target);
}

}  // namespace sluice::upstream
