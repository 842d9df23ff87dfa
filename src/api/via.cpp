#include "api/via.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "base/ascii.hpp"
#include "http/client_framing.hpp"

namespace sluice::api {
namespace {

// Cuts the first entry off: what stands in front of the next comma outside a comment.
std::string_view take_entry(std::string_view& via) {
  int depth = 0;
  std::size_t end = 0;
  for (; end < via.size(); ++end) {
    const char c = via[end];
    if (c == '\\' && depth > 0) ++end;
    if (c == '(') ++depth;
    if (c == ')' && depth > 0) --depth;
    if (c == ',' && depth == 0) break;
  }
  end = std::min(end, via.size());
  const std::string_view entry = via.substr(0, end);
  via.remove_prefix(std::min(end + 1, via.size()));
  return trim(entry);
}

// protocol and received-by of an entry; empty where it has no received-by.
std::pair<std::string_view, std::string_view> parts_of(std::string_view entry) {
  const std::string_view protocol = entry.substr(0, entry.find_first_of(" \t"));
  entry.remove_prefix(protocol.size());
  entry = trim(entry);
  return {protocol, entry.substr(0, entry.find_first_of(" \t("))};
}

bool is_plain(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == ':' ||
           c == '-' || c == '_' || c == '/' || c == '[' || c == ']';
  });
}

}  // namespace

bool has_come_through(std::string_view via, std::string_view pseudonym) noexcept {
  if (pseudonym.empty()) return false;
  while (!via.empty()) {
    // received-protocol RWS received-by [ RWS comment ]
    if (http::same_field_name(parts_of(take_entry(via)).second, pseudonym)) return true;
  }
  return false;
}

std::string plain_via(std::string_view via) {
  std::string out;
  for (std::size_t kept = 0; !via.empty() && kept < kMaxViaEntries;) {
    const auto [protocol, by] = parts_of(take_entry(via));
    if (!is_plain(protocol) || !is_plain(by)) continue;
    if (!out.empty()) out += ", ";
    out.append(protocol).append(" ").append(by);
    ++kept;
  }
  return out;
}

std::string random_pseudonym() {
  std::random_device random;
  return fmt::format("sluice-{:08x}{:08x}", random(), random());
}

}  // namespace sluice::api
