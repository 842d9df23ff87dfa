#include "proxy/via.hpp"

#include <algorithm>
#include <random>

#include <fmt/format.h>

#include "http/client_framing.hpp"

namespace sluice::proxy {
namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

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
  return trimmed(entry);
}

}  // namespace

bool has_come_through(std::string_view via, std::string_view pseudonym) noexcept {
  if (pseudonym.empty()) return false;
  while (!via.empty()) {
    std::string_view entry = take_entry(via);
    // received-protocol RWS received-by [ RWS comment ]
    entry.remove_prefix(std::min(entry.find_first_of(" \t"), entry.size()));
    entry = trimmed(entry);
    const std::string_view by = entry.substr(0, entry.find_first_of(" \t("));
    if (http::same_field_name(by, pseudonym)) return true;
  }
  return false;
}

std::string random_pseudonym() {
  std::random_device random;
  return fmt::format("sluice-{:08x}{:08x}", random(), random());
}

}  // namespace sluice::proxy
