// Parts: what has arrived of blobs whose download broke, and the files that downloads write.
//
//   a file under incoming/   called                                    in the index
//   growing                  <algorithm>-<hex>.<tag>.part, or with a   no
//                            number before `.part`
//   a part                   the same                                  yes, the largest of its digest and tag alone
//   stored                   under blobs/, by BlobStore::adopt         no
//
// The tag says through which upstream a part came, and with whose rights (Layout::part_tag): only a download through
// the same upstream, with the same rights, goes on from it. What one upstream has sent is neither given to those who
// ask another, nor can it spoil what the other sends.
//
// A download writes its file under the name of a part from its first byte, so that what it has survives however the
// process ends (docs/disk-format.md). The name tells the digest; nothing else about a part is trusted: who goes on from
// one hashes it again. One whose bytes a power failure may have taken is not even tried: a part was either forced to
// the disk when it was kept, or has been written since the machine was started. open() hands a part out to one download
// alone, because it takes it out of the index; the lock on the store's root keeps other processes away.
//
// Owner: the composition root; it outlives the downloads. Threads: thread-safe; all functions but bytes() block on the
// disk and belong on the disk pool. The lock is not held meanwhile.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/filesystem.hpp"
#include "store/layout.hpp"
#include "store/ledger.hpp"
#include "store/origin.hpp"

namespace sluice::store {

class Parts {
 public:
  struct Params {
    runtime::Path root;  // the store's
    // For how long a part waits to be asked for; zero keeps none.
    std::chrono::seconds max_age{std::chrono::hours{24}};
    // Less than that is fetched again rather than kept.
    std::uint64_t min_bytes = 64 * 1024;
    // The store's account, in which what waits counts (BlobStore::ledger); none: it is not counted.
    Ledger* ledger = nullptr;
    // Whether parts that are kept are forced to the disk, so that they can be trusted after a power failure.
    bool sync = true;
    // Tells one run of the machine from the next; empty: it cannot be told, and every start counts as the next.
    std::string boot_id = current_boot();
  };
  // Linux's boot_id, or nothing.
  static std::string current_boot();

  struct Opened {
    runtime::File file;  // for reading and writing
    runtime::Path path;
    std::uint64_t size_bytes = 0;  // of the part; 0: a new file
    Reservation room = {};         // what the part takes, and counts for as long as it lives
  };
  // Whether a blob is stored, so that its parts are of no use.
  using Stored = std::function<bool(const oci::Digest&)>;

  Parts(Params params, runtime::Filesystem& filesystem, const Clock& clock, metrics::Registry& registry);
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  // Finds what earlier processes left; removes what is too old, too small, smaller than another one of its digest or
  // stored. Once, after BlobStore::start and before anything is opened. Failures are logged.
  void start(const Stored& stored);

  // The part of that blob that came from `origin`, which belongs to the caller from now on, or a new file. Errors:
  // no_space, io.
  Result<Opened> open(const oci::Digest& digest, const Origin& origin);

  // Keeps the first `size_bytes` of a file that open() gave out; false where it is not worth it or cannot be done, and
  // the file is the caller's to remove. `room` is what was reserved for the file; it is used up where the part is kept.
  bool keep(const runtime::Path& path, const oci::Digest& digest, std::uint64_t size_bytes, Reservation& room);

  // Removes the parts that nobody has asked for within max_age; returns how many.
  std::size_t expire();
  // Removes the parts of that blob; returns their bytes, 0 where there was none.
  std::uint64_t drop(const oci::Digest& digest);
  // The bytes of the largest part that waits of that blob. Does not block.
  [[nodiscard]] std::optional<std::uint64_t> find(const oci::Digest& digest) const;
  // Removes those that have waited for `idle` or longer, the oldest first, until `bytes` are free; returns how many
  // are.
  std::uint64_t give_up(std::uint64_t bytes, std::chrono::seconds idle);

  // Of all parts that wait.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Part {
    runtime::Path path;
    std::uint64_t size_bytes = 0;
    Clock::Wall since;
    Reservation room;
  };
  // What is waiting for the same downloads.
  struct Key {
    oci::Digest digest;
    std::string tag;
    auto operator<=>(const Key&) const = default;
  };

  [[nodiscard]] bool expired(const Part& part) const;
  std::optional<Part> insert(const Key& key, Part part);
  std::optional<Part> take(const Key& key);
  Result<Opened> create(const Key& key);
  // Whose a file is that was found: nobody's; another process's, which is ending and still writes it
  // (docs/disk-format.md, "Handing over"); or no part, because it is no regular file of one name.
  enum class Claim : std::uint8_t { free, elsewhere, refused };
  Claim look(const runtime::Path& path);
  std::optional<Part> take_over(const Key& key);
  void take_over_all();
  static Result<void> claim(const runtime::File& file, const runtime::Path& path);
  Result<Opened> reopen(Part part);
  bool finish(const runtime::Path& path, std::uint64_t size_bytes);
  bool same_boot();
  void discover(const runtime::DirectoryEntry& entry, bool same_boot, const Stored& stored);
  // Whether it is gone.
  bool remove(const runtime::Path& path);
  void add_bytes(std::int64_t bytes);
  std::optional<Part> take_oldest(std::chrono::seconds idle);

  const Params params_;
  const Layout layout_;
  runtime::Filesystem& filesystem_;
  const Clock& clock_;
  metrics::Gauge& bytes_metric_;
  metrics::Counter& expired_metric_;
  metrics::Counter& given_up_metric_;
  metrics::Counter& distrusted_metric_;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> next_number_{1};

  mutable std::mutex mutex_;                // guards parts_ and elsewhere_
  std::map<Key, runtime::Path> elsewhere_;  // what somebody else wrote when it was looked at
  std::map<Key, Part> parts_;
};

}  // namespace sluice::store
