// CanonicalNames: whether a blob at rest is what an upstream says that it is also called.
//
// Upstream (Docker-Content-Digest) or Redis says of a sha512 that its content is that of a sha256 which is here. Their
// word is not enough, since a wrong one would hand out other bytes: the file is hashed, once for all who ask, and what
// was found out is remembered (BlobAccess::set_canonical), or for a minute that it was not so.
//
// Hashing costs much, and a claim nothing. So the claims of one upstream are verified one at a time, only while
// somebody waits for one of them, and an upstream whose claims have failed three times is not believed for ten minutes:
// what is asked for is then downloaded under its own name.
//
// Threads: verify may be awaited on any loop; the hashing is done on the disk pool, in pieces that leave room for
// others. The group must be empty before this is destroyed.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <unordered_map>

#include "access/blob_access.hpp"
#include "access/negative_cache.hpp"
#include "access/upstreams.hpp"
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

  // Whether the bytes at rest under `claimed` have the digest `digest`, as the upstream of that route says; they do so
  // from now on for everybody. False as well when there are none, when they cannot be read, when that upstream is not
  // believed, and when the time of the route is over.
  runtime::Task<bool> verify(access::Route route, oci::Digest digest, oci::Digest claimed);

 private:
  struct Checked {
    oci::Digest digest;
    oci::Digest claimed;
    bool same = false;
  };
  // Of one upstream.
  struct Claims {
    std::size_t waiting = 0;  // those in verify()
    std::size_t failed = 0;
    Clock::Monotonic since{};  // of the first, or of the one that was too many
  };
  // Somebody in verify().
  class Waiting;

  runtime::Task<Result<Checked>> check(std::string upstream, oci::Digest digest, oci::Digest claimed);
  runtime::Task<Result<bool>> hash(std::string upstream, oci::Digest digest, oci::Digest claimed);
  [[nodiscard]] bool believes(const std::string& upstream);
  [[nodiscard]] bool is_awaited(const std::string& upstream);
  void note_failed(const std::string& upstream, const std::string& why);

  access::BlobAccess& access_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  runtime::Filesystem& filesystem_;
  const Clock& clock_;
  metrics::Counter& verified_;
  metrics::Counter& refuted_;
  access::NegativeCache wrong_;
  RecurringLog log_;
  std::mutex mutex_;                                // guards claims_
  std::unordered_map<std::string, Claims> claims_;  // by upstream, as store::Origin calls it
  runtime::SingleFlight<std::string, Checked> flights_;
};

}  // namespace sluice::pull
