#include "base/mask.hpp"

#include <algorithm>

namespace sluice {
namespace {

// What ends a URL in the middle of a text.
constexpr std::string_view kDelimiters = " \t\r\n\"'`<>,;|(){}";

// The last `@` that is no digest's; npos where there is none. A password may hold one that is not encoded.
std::size_t end_of_userinfo(std::string_view token) {
  for (std::size_t at = token.rfind('@'); at != std::string_view::npos;
       at = at == 0 ? std::string_view::npos : token.rfind('@', at - 1)) {
    const std::string_view behind = token.substr(at + 1);
    if (!behind.starts_with("sha256:") && !behind.starts_with("sha512:")) return at;
  }
  return std::string_view::npos;
}

void append_masked(std::string& out, std::string_view token) {
  const std::size_t at = end_of_userinfo(token);
  const std::size_t scheme = token.find("://");
  const bool has_scheme = scheme != std::string_view::npos && scheme < at;
  const std::size_t begin = has_scheme ? scheme + 3 : 0;
  const std::size_t colon = at == std::string_view::npos ? at : token.find(':', begin);
  const bool has_password = colon != std::string_view::npos && colon < at;
  if (at == std::string_view::npos || (!has_scheme && !has_password)) {
    out += token;
    return;
  }
  // Without a colon it may be a token.
  if (has_password) {
    out += token.substr(0, colon + 1);
  } else {
    out += token.substr(0, begin);
  }
  out += "***";
  out += token.substr(at);
}

}  // namespace

std::string mask_userinfo(std::string_view text) {
  if (text.find('@') == std::string_view::npos) return std::string(text);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t begin = std::min(text.find_first_not_of(kDelimiters), text.size());
    out += text.substr(0, begin);
    text.remove_prefix(begin);
    const std::size_t end = std::min(text.find_first_of(kDelimiters), text.size());
    append_masked(out, text.substr(0, end));
    text.remove_prefix(end);
  }
  return out;
}

std::string mask_userinfo_of(std::string_view value) {
  std::string out;
  append_masked(out, value);
  return out;
}

}  // namespace sluice
