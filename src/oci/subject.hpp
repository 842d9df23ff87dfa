// What a manifest refers to, whatever kind it is. A pure function; any thread.
#pragma once

#include <optional>
#include <string_view>

#include "oci/digest.hpp"

namespace sluice::oci {

// The digest of the `subject` at the top of a JSON object. Of nothing else in it is anything wanted, so it is read of
// artifact manifests and vendors' types too, which parse_manifest refuses. Nothing where the text is not JSON (beyond
// bytes that are not UTF-8), is nested deeper than kMaxManifestDepth, or names a subject twice.
std::optional<Digest> subject_of(std::string_view manifest);

}  // namespace sluice::oci
