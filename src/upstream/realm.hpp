// Which token server may see our credentials. Pure functions; any thread.
#pragma once

#include <span>
#include <string>

#include "http/url.hpp"

namespace sluice::upstream {

// The public suffix and one label more, by the public suffix list with its private section ("auth.docker.io" ->
// "docker.io", "a.b.co.uk" -> "b.co.uk", "me.github.io" -> itself), as the system has it. Empty for a name that is
// itself a suffix, and below the domains of hosters whose customers' names the list does not tell apart. Not for
// addresses. `host` is in lower case.
std::string registrable_domain(std::string host);

// Whether a realm that `registry` names in a challenge may be sent the credentials for `registry`: a realm of the same
// host or the same registrable domain, or one that `trusted` names ("host" or "host:port"). Addresses, localhost and
// names without a dot must be the same host and port. Never over plain http when the registry itself is https.
// CVE-2026-33540 is what happens without this.
bool may_see_credentials(const http::Url& registry, const http::Url& realm, std::span<const std::string> trusted);

}  // namespace sluice::upstream
