// If-None-Match and If-Match (RFC 9110 §13.1). Pure functions; any thread.
//
// `header` is the field's value, several fields joined by ", "; `etag` is our own strong entity tag, quoted. Tags are
// also accepted without quotes, because docker-registry does, and clients that learnt it from there send the digest
// bare.
#pragma once

#include <string_view>

namespace sluice::http {

// Weak comparison: the client has this representation, so a GET or HEAD is answered 304. An empty header never matches.
bool if_none_match(std::string_view header, std::string_view etag) noexcept;

// Strong comparison: whether the request may go on; 412 where not. An empty header always lets it.
bool if_match(std::string_view header, std::string_view etag) noexcept;

}  // namespace sluice::http
