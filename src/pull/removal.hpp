// Taking out: what DELETE, the admin API and the command line do.
//
//   forget        the repository's membership goes from the front and the catalog, with the tags that point there; when
//                 no repository has the blob any more, its file, its part and what is in memory of it. What lies
//                 under another name (its sha256) goes under that too
//   forget_tag    what the tag was; the manifest stays
//
// Upstream is never touched: whoever asks next is told what upstream says then. Running readers have the file open and
// get to their end. What is on its way from upstream meanwhile is not remembered (access/revocations.hpp), and a
// download that nobody else may have is not kept.
//
// Threads: all functions may be called from any loop. Owned by the composition root.
#pragma once

#include <cstdint>
#include <string_view>

#include "access/blob_access.hpp"
#include "base/result.hpp"
#include "descriptors/scope.hpp"
#include "oci/digest.hpp"
#include "oci/name.hpp"
#include "pull/blob_service.hpp"
#include "pull/manifest_service.hpp"
#include "runtime/disk_pool.hpp"
#include "store/blob_store.hpp"
#include "store/parts.hpp"

namespace sluice::pull {

class Removal {
 public:
  // All must outlive it.
  struct Parts {
    access::BlobAccess& access;
    BlobService& blobs;
    ManifestService& manifests;
    store::BlobStore& store;
    store::Parts& parts;
    runtime::DiskPool& pool;
  };

  explicit Removal(const Parts& parts) : parts_(parts) {}
  Removal(const Removal&) = delete;
  Removal& operator=(const Removal&) = delete;

  // DELETE of a blob, by all names that the repository knows it by. Errors: blob_unknown, the repository does not have
  // it as far as is known here; those of forget.
  runtime::Task<Result<void>> remove_blob(descriptors::Scope scope, oci::Digest digest);
  // DELETE of a manifest: by tag the tag alone, by digest the manifest with the tags that point to it.
  // Errors: manifest_unknown; those of forget.
  runtime::Task<Result<void>> remove_manifest(descriptors::Scope scope, oci::Reference reference);

  struct Freed {
    bool known = false;       // the repository had it
    bool file = false;        // and was the last one: the file is gone
    std::uint64_t bytes = 0;  // of the file and the part
    std::size_t tags = 0;
  };
  // Durable when it returns. Errors: those of Redis, where it could not be told: nothing was taken out.
  runtime::Task<Result<Freed>> forget(descriptors::Scope scope, oci::Digest digest);
  // A file that no repository has.
  runtime::Task<Result<Freed>> drop(oci::Digest digest);
  // Whether it was known.
  bool forget_tag(const descriptors::Scope& scope, std::string_view tag);
  // What was forgotten is so on the disk too.
  runtime::Task<Result<void>> flush();

 private:
  runtime::Task<Result<Freed>> forget_name(descriptors::Scope scope, oci::Digest digest);

  const Parts parts_;
};

}  // namespace sluice::pull
