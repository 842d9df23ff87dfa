#include "api/target.hpp"

namespace sluice::api {
namespace {

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

}  // namespace sluice::api
