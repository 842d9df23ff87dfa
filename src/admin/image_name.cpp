#include "admin/image_name.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace sluice::admin {
namespace {

constexpr std::string_view kDockerHub = "docker.io";
constexpr std::array<std::string_view, 3> kDockerHubNames{"index.docker.io", "registry-1.docker.io",
                                                          "registry.hub.docker.com"};

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

bool is_registry(std::string_view part) {
  return part == "localhost" || part.find_first_of(".:") != std::string_view::npos;
}

// Enough of a host's grammar for a name that is looked up and compared, never dialled.
bool is_host(std::string_view text) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (text.empty() || (!alphanumeric(text.front()) && text.front() != '[')) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return alphanumeric(c) || c == '-' || c == '.' || c == ':' || c == '[' || c == ']';
  });
}

}  // namespace

Result<ImageName> ImageName::parse(std::string_view text) {
  ImageName out;
  if (text.find("://") != std::string_view::npos) {
    return Error{Errc::name_invalid,
                 fmt::format("\"{}\" is a URL; an image is named as docker does: ghcr.io/owner/app:tag", text)};
  }
  std::string_view name = text;
  if (const std::size_t at = name.find('@'); at != std::string_view::npos) {
    const Result<oci::Digest> digest = oci::Digest::parse(name.substr(at + 1));
    if (!digest) return digest.error();
    out.digest = *digest;
    name = name.substr(0, at);
  }
  const std::size_t last = name.rfind('/');
  if (const std::size_t colon = name.rfind(':');
      colon != std::string_view::npos && (last == std::string_view::npos || colon > last)) {
    Result<oci::Tag> tag = oci::Tag::parse(name.substr(colon + 1));
    if (!tag) return tag.error();
    out.tag = std::move(*tag);
    name = name.substr(0, colon);
  }
  if (const std::size_t slash = name.find('/'); slash != std::string_view::npos && is_registry(name.substr(0, slash))) {
    out.registry = lowered(name.substr(0, slash));
    if (std::find(kDockerHubNames.begin(), kDockerHubNames.end(), out.registry) != kDockerHubNames.end()) {
      out.registry = kDockerHub;
    }
    name = name.substr(slash + 1);
  }
  out.repository = name;
  const bool hub = out.registry.empty() || out.registry == kDockerHub;
  if (hub && name.find('/') == std::string_view::npos) out.repository.insert(0, "library/");
  const bool registry = out.registry.empty() || is_host(out.registry);
  if (!registry || !oci::Repository::parse(out.repository)) {
    return Error{Errc::name_invalid, fmt::format("\"{}\" is no name of an image; one is written as busybox, "
                                                 "owner/app:tag or ghcr.io/owner/app@sha256:…",
                                                 text)};
  }
  return out;
}

oci::Reference ImageName::reference() const {
  if (digest) return {*digest};
  if (tag) return {*tag};
  return {oci::Tag::parse("latest").value()};
}

std::string ImageName::to_string() const {
  std::string out = registry.empty() ? repository : registry + "/" + repository;
  if (tag) out.append(":").append(tag->str());
  if (digest) out.append("@").append(digest->to_string());
  return out;
}

}  // namespace sluice::admin
