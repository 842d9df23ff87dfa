// What the bytes of a manifest say: its media type and what it refers to.
//
// A pure function over untrusted bytes: bounded in time and memory, any thread. It never changes or re-encodes a
// manifest; the bytes, not this reading of them, are what has the digest.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "oci/descriptor.hpp"

namespace sluice::oci {

// The size that the distribution-spec asks registries to take, "at least 4 megabytes", and that clients stop at.
inline constexpr std::size_t kMaxManifestBytes = std::size_t{4} << 20;
// Objects and arrays within each other. Manifests need five.
inline constexpr std::size_t kMaxManifestDepth = 64;

struct ManifestInfo {
  std::string media_type;  // one of the six manifest types of media_type.hpp
  bool is_index = false;
  // The manifests of an index; else the configuration followed by the layers, in the manifest's order. Layers with
  // `urls` (foreign layers) are among them. Empty for docker schema 1, which does not tell sizes.
  // An entry without a media type has application/octet-stream.
  std::vector<Descriptor> references;
  // Those of the references that have `urls`: content that may lie elsewhere, so that registries do not insist on
  // having it when they take the manifest.
  std::vector<Digest> foreign;
  std::optional<Descriptor> subject;
  std::string artifact_type;  // as written; empty when absent

  friend bool operator==(const ManifestInfo&, const ManifestInfo&) = default;
};

// The blobs that a registry has wanted to have when it took this manifest: the configuration and the layers, without
// those that may lie elsewhere. Empty for an index, whose manifests are not looked for, and for docker schema 1.
std::vector<Descriptor> own_blobs(const ManifestInfo& info);

// Reads a manifest. `content_type` is what upstream's Content-Type said, empty when it was missing.
//
// The media type: a Content-Type that names a manifest type wins; a missing or generic one (application/json,
// application/octet-stream, text/plain …) leaves it to the body's `mediaType`, and without that to its structure.
//
// Errors: manifest_invalid for everything that is not one manifest of one certain type. That is, too large, not JSON,
// nested too deep, a Content-Type that is neither (an HTML page), a `mediaType` that contradicts it, both an index's
// `manifests` and an image's `config`, `layers` or `fsLayers` (CVE-2021-41190), a key that matters given twice, a
// `schemaVersion` that does not fit, a bad or unknown digest, a size that is missing, negative, fractional or beyond
// int64.
// Bytes that are not UTF-8 (Latin-1 in a label) are read over.
Result<ManifestInfo> parse_manifest(std::string_view bytes, std::string_view content_type);

// --- What a manifest is served as, whatever the parser makes of it. Its digest says that the bytes are right.

// Whether a Content-Type says what a manifest is: one of the six types, or another type of an application. Not one that
// servers give files that they do not know (application/json, application/octet-stream, text/html …), nor one of an
// error (application/problem+json, RFC 9457).
bool names_manifest_type(std::string_view content_type) noexcept;

// Whether `bytes` say of themselves that they are errors and no manifest: an object with `errors`, as registries
// (distribution-spec, "Error Codes") and other services send them, and with nothing that a manifest has. False for more
// than 64 KiB.
bool is_error_document(std::string_view bytes);

// The digest of the `subject` at the top of a JSON object: of artifact manifests and vendors' types too, which
// parse_manifest refuses. Nothing where the text is not JSON (beyond bytes that are not UTF-8), or holds more than some
// ten thousand values: such a manifest refers to nothing.
std::optional<Digest> subject_of(std::string_view bytes);

// The media type to serve `bytes` with: that of upstream's Content-Type where it names one (also where the body names
// another: a HEAD has only the former), else the body's `mediaType`, else what its structure shows; application/json or
// application/octet-stream where nothing tells.
std::string served_type(std::string_view bytes, std::string_view content_type);

// Whether `bytes` begin as a JSON object does. What is asked for by tag has to: a page of a portal does not.
bool looks_like_json(std::string_view bytes) noexcept;

}  // namespace sluice::oci
