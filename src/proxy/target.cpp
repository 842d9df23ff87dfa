#include "proxy/target.hpp"

#include <optional>

namespace sluice::proxy {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// RFC 3986 section 2.1. Nothing for a broken escape.
std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_value(text[i + 1]);
    const int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

// Some clients escape the colon of a digest. Every other escape stays, and fails the reference's grammar.
std::string unescape_colon(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 3) == "%3A" || text.substr(i, 3) == "%3a") {
      out += ':';
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Cuts the part behind the last slash off `path` and returns it.
std::string_view take_last(std::string_view& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) {
    const std::string_view all = path;
    path = {};
    return all;
  }
  const std::string_view last = path.substr(slash + 1);
  path.remove_suffix(path.size() - slash);
  return last;
}

}  // namespace

Target parse_target(std::string_view path) {
  Target target;
  if (path == "/v2/" || path == "/v2") {
    target.kind = Target::Kind::ping;
    return target;
  }
  if (!path.starts_with("/v2/")) return target;
  path.remove_prefix(4);
  if (path == "_catalog") {
    target.kind = Target::Kind::catalog;
    return target;
  }
  // An upload's path ends in `/blobs/uploads/` or `/blobs/uploads/<id>`. No digest is called "uploads".
  for (const std::string_view marker : {std::string_view("/blobs/uploads/"), std::string_view("/blobs/uploads")}) {
    const std::size_t at = path.rfind(marker);
    if (at == std::string_view::npos) continue;
    const std::string_view rest = path.substr(at + marker.size());
    if (rest.find('/') != std::string_view::npos || (marker.back() != '/' && !rest.empty())) continue;
    target.kind = Target::Kind::upload;
    target.name = path.substr(0, at);
    return target;
  }
  std::string_view name = path;
  const std::string_view last = take_last(name);
  const std::string_view kind = take_last(name);
  if (kind == "blobs") target.kind = Target::Kind::blob;
  if (kind == "manifests") target.kind = Target::Kind::manifest;
  if (kind == "referrers") target.kind = Target::Kind::referrers;
  if (kind == "tags" && last == "list") target.kind = Target::Kind::tags;
  if (target.kind == Target::Kind::unknown) return target;
  target.name = name;
  if (target.kind != Target::Kind::tags) target.reference = unescape_colon(last);
  return target;
}

std::optional<std::string> find_query_parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
    const std::size_t equals = pair.find('=');
    if (pair.substr(0, equals) != name || equals == std::string_view::npos) continue;
    return percent_decode(pair.substr(equals + 1)).value_or(std::string{});
  }
  return std::nullopt;
}

std::string query_parameter(std::string_view query, std::string_view name) {
  return find_query_parameter(query, name).value_or(std::string{});
}

}  // namespace sluice::proxy
