// StoredManifests: the manifests that are here, read from memory or from the store.
//
// A manifest of more than kMaxInMemory bytes is answered from its open file, as a blob is, so that a client that does
// not read costs no copy of it, however many manifests there are. The file is hashed before it is sent, unless it was
// hashed within kCheckedFor.
//
// The bytes of one manifest can have two types, where they do not say themselves, so one repository's word is never
// another one's answer. Nor is one upstream's: what came with a login is given only to those who ask an upstream that
// has sent it itself (store/origin_sets.hpp).
//
// Threads: all functions may be called from any loop. The group must be empty before this is destroyed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "access/negative_cache.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "pull/ready_object.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/single_flight.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

class StoredManifests {
 public:
  using Object = std::shared_ptr<const ReadyObject>;

  // What a client that does not read may cost beyond its connection. Manifests of images are smaller.
  static constexpr std::uint64_t kMaxInMemory = 16 * 1024;
  static constexpr std::chrono::minutes kCheckedFor{10};

  // `memory_bytes`: of what is kept in memory and nobody holds. Files are hashed on `pool`.
  StoredManifests(std::uint64_t memory_bytes, store::BlobStore& store, runtime::DiskPool& pool, const Clock& clock,
                  runtime::TaskGroup& group)
      : store_(store),
        pool_(pool),
        objects_(memory_bytes),
        checked_({.ttl = kCheckedFor, .max_entries = 10'000}, clock),
        loads_(group) {}

  // The manifest `digest`, which lies in the store under `name`, of the type that upstream called it for the repository
  // that asks, for clients of the upstream that store::Origin calls `origin`; null where it is not here for them. A
  // large one may be its open file.
  runtime::Task<Object> read(oci::Digest digest, oci::Digest name, std::string media_type, std::string origin);
  // The same manifest with its bytes in memory; null where they can no longer be read.
  runtime::Task<Object> in_memory(oci::Digest digest, oci::Digest name, Object object);
  // The same manifest as it is sent: its open file where it is large and stored, else `object`.
  runtime::Task<Object> to_send(oci::Digest digest, oci::Digest name, Object object);
  // What read() would give of a manifest of `size` bytes that is in the store under its own digest, without waiting;
  // else null.
  [[nodiscard]] Object peek(const oci::Digest& digest, std::string_view media_type, std::uint64_t size);
  // Whether its bytes need not be fetched for clients of that origin, as far as can be told without a look at the disk.
  [[nodiscard]] bool is_here(const oci::Digest& digest, const oci::Digest& name, std::string_view origin);
  // Keeps it in memory, unless it is `stored` and large: returns the one that is there already, where it is the same.
  [[nodiscard]] Object share(const oci::Digest& digest, Object object, bool stored) {
    return stored && object->size > kMaxInMemory ? object : objects_.share(digest, std::move(object));
  }
  // Lets go of what is in memory of a manifest that is at rest no longer.
  void forget(const oci::Digest& digest) {
    objects_.erase(digest);
    checked_.erase(check_key(digest, digest));
  }

 private:
  static std::string check_key(const oci::Digest& digest, const oci::Digest& file);
  runtime::Task<Object> load_shared(oci::Digest digest, oci::Digest file, std::string media_type, bool as_file);
  runtime::Task<Result<Object>> load(oci::Digest digest, std::string media_type);
  runtime::Task<Result<Object>> load_signed(oci::Digest digest, oci::Digest name, std::string media_type);
  runtime::Task<Result<Object>> load_file(oci::Digest digest, oci::Digest file, std::string media_type);
  runtime::Task<Result<void>> check(oci::Digest digest, oci::Digest file);

  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  ObjectCache objects_;
  access::NegativeCache checked_;  // files that were hashed lately
  runtime::SingleFlight<std::string, Object> loads_;
};

}  // namespace sluice::pull
