// The verifier: reads blobs at rest and compares their digests with their names.
//
// What does not match is moved to <root>/quarantine (docs/disk-format.md) and forgotten, so that the next request
// fetches it again; so is what the disk cannot read (EIO). What is missing is forgotten. A blob that is replaced or
// removed while it is read is left alone. What is read does not push anything out of the page cache.
//
// Threads: verify blocks, for as long as it takes to read the blobs; from any thread that may, while the store serves,
// several at a time. It must have ended before the store is stopped: that is what `stop` is for.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/filesystem.hpp"
#include "store/blob_store.hpp"

namespace sluice::store {

struct VerifyOptions {
  // The share of the blobs that is read, chosen at random; the same seed chooses the same blobs.
  double sample = 1.0;
  std::uint64_t seed = 0;
  // How fast the disk is read; 0: as it goes.
  std::uint64_t bytes_per_second = 0;
  // Goes on behind this one, where an earlier pass stopped (VerifyProgress::last).
  std::optional<oci::Digest> after = std::nullopt;
};

struct VerifyProgress {
  std::uint64_t blobs = 0;  // looked at
  std::uint64_t blobs_total = 0;
  std::uint64_t bytes = 0;  // read
  std::uint64_t bytes_total = 0;
  std::uint64_t damaged = 0;                       // other bytes, or another length
  std::uint64_t missing = 0;                       // no file
  std::uint64_t unreadable = 0;                    // the disk failed
  std::optional<oci::Digest> last = std::nullopt;  // the last blob that was looked at
};

struct VerifyReport : VerifyProgress {
  struct Damaged {
    oci::Digest digest;
    std::string reason;
    runtime::Path quarantined_to;  // empty: removed, or left where it was because the disk let nothing be done
  };
  static constexpr std::size_t kMaxDamaged = 1000;
  std::vector<Damaged> found;  // what is damaged, missing or unreadable: the first kMaxDamaged
  bool stopped = false;        // before the end
};

// `on_progress` is called on this thread after each blob and now and then within a large one; it may be empty. Errors:
// closed (the store does not run).
Result<VerifyReport> verify(BlobStore& store, const VerifyOptions& options, std::stop_token stop,
                            const std::function<void(const VerifyProgress&)>& on_progress);

}  // namespace sluice::store
