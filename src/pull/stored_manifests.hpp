// StoredManifests: the manifests that are here, read from memory or from the store.
//
// The bytes of one manifest can have two types, where they do not say themselves, so one repository's word is never
// another one's answer. Nor is one upstream's: what came with a login is given only to those who ask an upstream that
// has sent it itself (store/origin_sets.hpp).
//
// Threads: all functions may be called from any loop. The group must be empty before this is destroyed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"
#include "oci/digest.hpp"
#include "pull/ready_object.hpp"
#include "runtime/single_flight.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

class StoredManifests {
 public:
  using Object = std::shared_ptr<const ReadyObject>;

  // `memory_bytes`: of what is kept in memory and nobody holds.
  StoredManifests(std::uint64_t memory_bytes, store::BlobStore& store, runtime::TaskGroup& group)
      : store_(store), objects_(memory_bytes), loads_(group) {}

  // The manifest `digest`, which lies in the store under `name`, of the type that upstream called it for the repository
  // that asks, for clients of the upstream that store::Origin calls `origin`; null where it is not here for them.
  runtime::Task<Object> read(oci::Digest digest, oci::Digest name, std::string media_type, std::string origin);
  // What is in memory of it, or null.
  [[nodiscard]] Object find(const oci::Digest& digest) { return objects_.find(digest); }
  // Whether its bytes need not be fetched for clients of that origin, as far as can be told without a look at the disk.
  [[nodiscard]] bool is_here(const oci::Digest& digest, const oci::Digest& name, std::string_view origin);
  // Keeps it in memory: returns the one that is there already, where it is the same.
  [[nodiscard]] Object share(const oci::Digest& digest, Object object) {
    return objects_.share(digest, std::move(object));
  }
  // Lets go of what is in memory of a manifest that is at rest no longer.
  void forget(const oci::Digest& digest) { objects_.erase(digest); }

 private:
  runtime::Task<Result<Object>> load(oci::Digest digest, std::string media_type);
  runtime::Task<Result<Object>> load_signed(oci::Digest digest, oci::Digest name, std::string media_type);

  store::BlobStore& store_;
  ObjectCache objects_;
  runtime::SingleFlight<std::string, Object> loads_;
};

}  // namespace sluice::pull
