// Reads the manifest of an answer, and judges it by its digest.
//
// Threads: as the response.
#pragma once

#include <optional>

#include "http/client.hpp"
#include "oci/name.hpp"
#include "runtime/task.hpp"
#include "upstream/registry.hpp"

namespace sluice::upstream {

// A manifest that has been read, or why there is none.
struct ReadManifest {
  Result<ManifestAnswer> manifest;
  // Of a tag: what came, where it does not have the digest that its head says.
  std::optional<ManifestAnswer> doubtful = std::nullopt;
};

// Errors: upstream_unreachable and upstream_timeout, when it broke off; upstream_protocol and digest_mismatch, when it
// is not what was asked for. Their messages do not say where. The response outlives the task.
runtime::Task<ReadManifest> read_manifest(http::ClientResponse& response, oci::Reference reference);

}  // namespace sluice::upstream
