// The pages of a list: where the next one is (OCI distribution-spec, "Listing tags"; RFC 8288). Pure functions.
#pragma once

#include <string>

#include "base/result.hpp"
#include "http/client.hpp"
#include "http/url.hpp"

namespace sluice::upstream {

// Where the head of a page says that the next one is: "" for the last one.
std::string next_link(const http::ReceivedHead& head);

// The path behind `base` that the Link of an answer to `path` leads to, whatever host it names: nowhere but below this
// registry's /v2/. `prefix`: that of `base` in front of /v2/. Registries name hosts in a Link that only they know, and
// leave out what a proxy in front puts before the name: so it is asked at our own address, and where it is another page
// of the same list, under the path that has worked. Errors: upstream_protocol, and those of Url::resolve.
Result<std::string> next_page(http::Url base, const std::string& prefix, const std::string& path,
                              const std::string& link);

}  // namespace sluice::upstream
