// What is attached to an image: signatures, attestations, SBOMs, by the referrers API or under tags of their own.
#pragma once

#include <string_view>

#include "base/errc.hpp"

namespace sluice::pull {

// An outage as an answer about what is attached to an image: 503 whatever went wrong but for a loop. Clients take much
// else for "there is none", and then an image for unsigned.
inline Error cannot_be_listed(Error outage) {
  if (outage.code != Errc::throttled && outage.code != Errc::upstream_loop) outage.code = Errc::overloaded;
  return outage;
}

// Whether a tag stands for what is attached to a manifest: `sha256-<hex>`, the referrers tag (distribution-spec), or
// with .sig, .att or .sbom behind it, as cosign has them.
inline bool is_attachment_tag(std::string_view tag) noexcept {
  for (const std::string_view suffix : {".sig", ".att", ".sbom"}) {
    if (tag.ends_with(suffix)) {
      tag.remove_suffix(suffix.size());
      break;
    }
  }
  const std::size_t dash = tag.find('-');
  if (dash == std::string_view::npos || dash == 0) return false;
  const std::string_view hex = tag.substr(dash + 1);
  constexpr std::string_view kHex = "0123456789abcdef";
  return (tag.starts_with("sha256-") || tag.starts_with("sha384-") || tag.starts_with("sha512-")) && hex.size() >= 64 &&
         hex.find_first_not_of(kHex) == std::string_view::npos;
}

}  // namespace sluice::pull
