// Descriptor: what is known of a piece of content without having it (OCI image-spec, descriptor.md).
//
// A value; safe to read from any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "oci/digest.hpp"

namespace sluice::oci {

struct Descriptor {
  Digest digest;
  std::uint64_t size = 0;  // bytes
  std::string media_type;

  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

// Whether a descriptor may be kept: a media type that is not empty, and a size within int64, as the image-spec has it.
// The digest is valid by construction. Error: internal, for a descriptor that ought not to have been built like that;
// who reads one from outside maps it to an error of his own.
Result<void> validate(const Descriptor& descriptor);

}  // namespace sluice::oci
