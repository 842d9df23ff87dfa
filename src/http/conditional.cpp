#include "http/conditional.hpp"

namespace sluice::http {
namespace {

struct EntityTag {
  std::string_view opaque;  // without quotes
  bool weak = false;
};

bool is_separator(char c) noexcept { return c == ' ' || c == '\t' || c == ','; }

// Takes one entity tag off the front of `list`; false at its end.
bool next(std::string_view& list, EntityTag& tag) noexcept {
  while (!list.empty() && is_separator(list.front())) list.remove_prefix(1);
  if (list.empty()) return false;
  tag.weak = list.starts_with("W/");
  if (tag.weak) list.remove_prefix(2);
  std::size_t end = 0;
  if (list.starts_with('"')) {
    list.remove_prefix(1);
    // A comma may stand inside the quotes (RFC 9110 §8.8.3).
    end = list.find('"');
  } else {
    while (end < list.size() && !is_separator(list[end])) ++end;
  }
  tag.opaque = list.substr(0, end);
  list.remove_prefix(end == std::string_view::npos ? list.size() : end);
  if (list.starts_with('"')) list.remove_prefix(1);
  return true;
}

std::string_view unquoted(std::string_view etag) noexcept {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') return etag.substr(1, etag.size() - 2);
  return etag;
}

bool matches(std::string_view header, std::string_view etag, bool accept_weak) noexcept {
  const std::string_view ours = unquoted(etag);
  EntityTag theirs;
  while (next(header, theirs)) {
    if (theirs.weak && !accept_weak) continue;
    if (theirs.opaque == ours || (theirs.opaque == "*" && !theirs.weak)) return true;
  }
  return false;
}

}  // namespace

bool if_none_match(std::string_view header, std::string_view etag) noexcept {
  return !header.empty() && matches(header, etag, true);
}

bool if_match(std::string_view header, std::string_view etag) noexcept {
  return header.empty() || matches(header, etag, false);
}

}  // namespace sluice::http
