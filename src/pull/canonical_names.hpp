// CanonicalNames: whether a blob at rest is what somebody says that it is also called.
//
// Upstream (Docker-Content-Digest) or Redis says of a sha512 that its content is that of a sha256 which is here. Their
// word is not enough, since a wrong one would hand out other bytes: the file is hashed, once for all who ask, and what
// was found out is remembered (BlobAccess::set_canonical), or for a minute that it was not so.
//
// Threads: verify may be awaited on any loop; the hashing is done on the disk pool, in pieces that leave room for
// others. The group must be empty before this is destroyed.
#pragma once

#include <string>

#include "access/blob_access.hpp"
#include "access/negative_cache.hpp"
#include "base/clock.hpp"
#include "base/recurring_log.hpp"
#include "oci/digest.hpp"
#include "pull/metrics.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/single_flight.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

class CanonicalNames {
 public:
  CanonicalNames(access::BlobAccess& access, store::BlobStore& store, runtime::DiskPool& pool,
                 runtime::Filesystem& filesystem, const Clock& clock, runtime::TaskGroup& group,
                 const Metrics& metrics);

  // Whether the bytes at rest under `claimed` have the digest `digest`; they do so from now on for everybody. False as
  // well when there are none, or they cannot be read.
  runtime::Task<bool> verify(oci::Digest digest, oci::Digest claimed);

 private:
  runtime::Task<Result<bool>> hash(oci::Digest digest, oci::Digest claimed);

  access::BlobAccess& access_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  runtime::Filesystem& filesystem_;
  metrics::Counter& verified_;
  metrics::Counter& refuted_;
  access::NegativeCache wrong_;
  RecurringLog log_;
  runtime::SingleFlight<std::string, bool> flights_;
};

}  // namespace sluice::pull
