// A blob or manifest with everything that answering for it takes: the head of the 200, made once, and the bytes or an
// open file.
//
// Immutable and shared: any thread may answer from one as long as it holds it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/shared_cache.hpp"
#include "base/version.hpp"
#include "oci/digest.hpp"
#include "oci/media_type.hpp"
#include "store/open_files.hpp"

namespace sluice::pull {

struct ReadyObject {
  std::string head;  // of a 200 to GET and HEAD alike
  std::string etag;  // the digest, quoted
  std::string media_type;
  std::uint64_t size = 0;  // bytes of the body
  std::string body;        // all of it, when `in_memory`
  bool in_memory = false;
  std::shared_ptr<const store::OpenBlob> file;  // otherwise; null: only the head is known, which does for a HEAD
  // The upstream that sent the body to us just now; empty: it was read from the store, which knows more.
  std::string upstream;
};

// An object that may be answered from without waiting, and what that hangs on.
struct ReadyHit {
  std::shared_ptr<const ReadyObject> object;
  Clock::Wall until = Clock::Wall::max();
  std::array<Version::Watch, 3> watches;  // of the membership, the bytes, and the tag
  oci::Digest digest = {};                // under which the bytes lie in the store
};

// Ready objects by digest: of one that anybody holds there is one, and others are kept within a bound of bytes.
// Manifests and blobs have one cache each. Thread-safe; one short lock.
class ObjectCache {
 public:
  using Object = std::shared_ptr<const ReadyObject>;

  // `capacity_bytes` of 0 keeps nothing that nobody holds.
  explicit ObjectCache(std::uint64_t capacity_bytes) : objects_(capacity_bytes) {}

  [[nodiscard]] Object find(const oci::Digest& digest) { return objects_.find(digest); }
  void insert(const oci::Digest& digest, Object object);
  // The one that is there already, where it is the same; else inserts `object`. So those who made one each share one.
  [[nodiscard]] Object share(const oci::Digest& digest, Object object);
  void erase(const oci::Digest& digest) { objects_.erase(digest); }

 private:
  SharedCache<oci::Digest, ReadyObject> objects_;
};

// The objects themselves. `body` is all of the content; the other forms answer from `file`. A blob that is a manifest
// has its type.
std::shared_ptr<const ReadyObject> ready_manifest(const oci::Digest& digest, std::string media_type, std::string body,
                                                  std::string upstream = {});
std::shared_ptr<const ReadyObject> ready_manifest(const oci::Digest& digest, std::string media_type,
                                                  std::shared_ptr<const store::OpenBlob> file);
std::shared_ptr<const ReadyObject> ready_manifest_head(const oci::Digest& digest, std::string media_type,
                                                       std::uint64_t size);
std::shared_ptr<const ReadyObject> ready_blob(const oci::Digest& digest, std::string body,
                                              std::string_view media_type = oci::media_type::kOctetStream);
std::shared_ptr<const ReadyObject> ready_blob(const oci::Digest& digest, std::shared_ptr<const store::OpenBlob> file,
                                              std::string_view media_type = oci::media_type::kOctetStream);
std::shared_ptr<const ReadyObject> ready_blob_head(const oci::Digest& digest, std::uint64_t size);

}  // namespace sluice::pull
