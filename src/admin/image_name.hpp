// An image as people name it: "busybox", "owner/app:1.2", "ghcr.io/owner/app@sha256:…". A value; pure.
//
// The rules are docker's: a first part with a dot or a colon, or "localhost", is a registry; an image of Docker Hub
// that has no other part in front is in library/; what names neither tag nor digest means "latest".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "oci/name.hpp"

namespace sluice::admin {

struct ImageName {
  std::string registry;  // as written, but lowercase and docker.io by its short name; empty: none was named
  std::string repository;
  std::optional<oci::Tag> tag;
  std::optional<oci::Digest> digest;

  // Errors: name_invalid, tag_invalid, digest_invalid, digest_unsupported, with what was expected.
  static Result<ImageName> parse(std::string_view text);

  // The digest, the tag, or "latest".
  [[nodiscard]] oci::Reference reference() const;
  // As docker would write it, with the registry only where one was named.
  [[nodiscard]] std::string to_string() const;
};

}  // namespace sluice::admin
