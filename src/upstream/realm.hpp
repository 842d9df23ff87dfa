// Which token server may see our credentials. Pure functions; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "http/url.hpp"

namespace sluice::upstream {

// The last two labels of a host name, or three where the last two are a suffix under which others register (co.uk):
// "auth.docker.io" -> "docker.io". The host itself where it has no more labels than that. Not for addresses.
// A short list of common suffixes stands in for the public suffix list: a suffix that is missing makes two hosts look
// related that are not, so the list errs on the side of the large hosters.
std::string_view registrable_domain(std::string_view host) noexcept;

// Whether a realm that `registry` names in a challenge may be sent the credentials for `registry`: a realm of the same
// host or the same registrable domain, or one that `trusted` names ("host" or "host:port"). Addresses, localhost and
// names without a dot must be the same host and port. Never over plain http when the registry itself is https.
// CVE-2026-33540 is what happens without this.
bool may_see_credentials(const http::Url& registry, const http::Url& realm,
                         std::span<const std::string> trusted) noexcept;

}  // namespace sluice::upstream
