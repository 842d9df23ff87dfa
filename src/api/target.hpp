// What a request's path asks for: one of the end-points of the distribution-spec. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::api {

struct Target {
  enum class Kind : std::uint8_t {
    ping,       // /v2/
    blob,       // /v2/<name>/blobs/<digest>
    manifest,   // /v2/<name>/manifests/<reference>
    tags,       // /v2/<name>/tags/list
    referrers,  // /v2/<name>/referrers/<digest>
    catalog,    // /v2/_catalog
    upload,     // /v2/<name>/blobs/uploads/…
    unknown,
  };

  Kind kind = Kind::unknown;
  std::string_view name;  // as in the path, unchecked; points into it
  std::string reference;  // digest or tag, unchecked; `%3A` has become a colon
};

// `path` is the raw path of the request. A name holds no character that needs percent-encoding, so it is not decoded:
// `%2e%2e` stays what it is and fails the name's grammar.
Target parse_target(std::string_view path);

}  // namespace sluice::api
