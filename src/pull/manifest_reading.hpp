// What the bytes of a manifest are served as, and what they say.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "oci/digest.hpp"
#include "oci/manifest.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/task.hpp"

namespace sluice::pull {

struct ManifestReading {
  std::string media_type;
  Result<oci::ManifestInfo> info{Errc::internal};  // as far as it makes sense
  // The name to store them under, where that is not their digest: they are signed.
  std::optional<oci::Digest> stored_as = {};
};

// `content_type` is upstream's. Large ones are parsed on `pool`.
runtime::Task<ManifestReading> read_manifest(runtime::DiskPool& pool, std::string body, std::string content_type);

}  // namespace sluice::pull
