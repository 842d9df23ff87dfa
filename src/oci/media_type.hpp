// Media types of registry content, and what a client accepts of them (RFC 9110 section 12.5.1).
//
// Pure functions and values; any thread. Media types are compared without regard to case and without parameters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::oci {

namespace media_type {
inline constexpr std::string_view kDockerSchema1 = "application/vnd.docker.distribution.manifest.v1+json";
inline constexpr std::string_view kDockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
inline constexpr std::string_view kDockerSchema2 = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";

inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kDockerLayer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
inline constexpr std::string_view kDockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciEmpty = "application/vnd.oci.empty.v1+json";
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";

inline constexpr std::string_view kOctetStream = "application/octet-stream";
inline constexpr std::string_view kJson = "application/json";
}  // namespace media_type

// "a/b; charset=utf-8" -> "a/b". Points into `value`; surrounding white space is removed.
std::string_view strip_parameters(std::string_view value) noexcept;

// The constant above that `value` (with or without parameters, in any case) names, when it is one of the six manifest
// types; else an empty view. The result lives for ever.
std::string_view canonical_manifest_type(std::string_view value) noexcept;

// One of the six manifest types, the two kinds of index included.
bool is_manifest(std::string_view value) noexcept;
// How the type of a manifest is noted where descriptors are kept: one of the six as it is, another one marked, so that
// a blob of an unusual type never counts as a manifest.
std::string manifest_note(std::string_view type);
// The type in such a note; empty where `note` is none, so that it is of a blob.
std::string_view noted_manifest_type(std::string_view note) noexcept;

// A docker manifest list or an OCI index.
bool is_index(std::string_view value) noexcept;
// One of the two docker schema 1 types.
bool is_schema1(std::string_view value) noexcept;

// The Accept value to send upstream with every manifest request: all manifest types, comma separated. Always the whole
// list, whatever the client asked: a registry answers 404 for an OCI image or converts it to schema 1, under another
// digest, when its own type is not in the list, and `*/*` does not help.
std::string_view manifest_accept() noexcept;

// A set of manifest types, one bit each; what a cached tag is keyed by besides its name.
using ManifestClass = std::uint8_t;
inline constexpr ManifestClass kAllManifests = 0x3f;
// The Accept value for these types alone.
std::string accept_value(ManifestClass types);

// The bit of one manifest type; 0 for anything else.
ManifestClass manifest_bit(std::string_view value) noexcept;

// What a client accepts. A value; built once for each request.
//
// Parameters other than the weight are ignored: no registry content is told apart by them.
class Accept {
 public:
  // A request without the header: accepts everything.
  Accept() = default;

  // From the values of all Accept fields, joined by commas (RFC 9110 section 5.3). Never fails: elements that are not
  // media ranges are skipped. Without any usable element it accepts everything, as if the header were missing. Keeps a
  // bounded number of ranges that it does not know.
  static Accept parse(std::string_view joined);

  // Whether content of this type may be sent. The most specific range decides; weight 0 refuses.
  bool accepts(std::string_view value) const noexcept;

  // The manifest types that accepts() is true for.
  ManifestClass manifest_class() const noexcept { return class_; }

 private:
  struct Range {
    std::string text;  // lowercase, "type/subtype" or "type/*"
    bool accepted;
  };

  ManifestClass class_ = kAllManifests;
  bool any_ = true;            // what holds for a type that nothing else names
  std::vector<Range> ranges_;  // all but the six known types and */*
};

}  // namespace sluice::oci
