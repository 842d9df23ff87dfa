// BlobService: blobs from the store, from a fill in flight, or by a fill of their own.
//
//   store.find ──has it──▶ may this repository see it? ──▶ at rest: a ReadyObject
//        ├─not there──▶ join the fill, or start one ──▶ in flight: a Stream, once upstream has told the size
//        └─nor wanted as a whole──▶ may this repository see it? ──▶ passed through: DirectRanges
//
// What is stored is there for the upstreams that have delivered it, and for all others where it was fetched without a
// login (store/origin_sets.hpp). To another one it is as if it were not there: a fill fetches it from that upstream,
// which its clients get, and when the digest is right the file is dropped and the upstream noted beside the stored one.
//
// Its parts: MembershipCheck says who may see what, Fills downloads, PassThrough fetches ranges by themselves,
// FillStorage has the disk, CanonicalNames knows a blob by its other names.
//
// Threads: all functions may be called from any loop. Fills must have ended before this is destroyed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "access/blob_access.hpp"
#include "access/cache_result.hpp"
#include "access/membership_check.hpp"
#include "access/upstreams.hpp"
#include "base/result.hpp"
#include "http/range.hpp"
#include "pull/canonical_names.hpp"
#include "pull/fill_storage.hpp"
#include "pull/fills.hpp"
#include "pull/metrics.hpp"
#include "pull/pass_through.hpp"
#include "pull/ready_object.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"
#include "store/parts.hpp"
#include "streamcache/cache.hpp"

namespace sluice::pull {

class BlobService {
 public:
  struct Params {
    // Blobs up to this size are answered from memory when they are at rest. Above, sendfile is cheaper.
    std::size_t in_memory_bytes = 8 * 1024;
    // How much of such blobs and of ready heads is kept.
    std::uint64_t memory_bytes = 16 * 1024 * 1024;
    TransferParams transfer;
    PassThrough::Params ranges;
    // Told, on some thread, when new blobs cannot be stored any more: why; and "" when they can be again.
    std::function<void(const std::string& why)> on_store_trouble;
  };

  struct Opened {
    access::CacheResult result = access::CacheResult::none;
    std::shared_ptr<const ReadyObject> object;    // at rest; else null and:
    std::unique_ptr<streamcache::Stream> stream;  // in flight
    std::optional<std::uint64_t> size;            // of the stream, where upstream told
    oci::Digest canonical;                        // the name under which it lies, or will lie, as far as it is known
    std::unique_ptr<DirectRanges> direct;         // or neither of the two: the ranges, from upstream
    std::string manifest_type = {};               // of what is not at rest and is a manifest; else empty
  };

  BlobService(const Params& params, access::BlobAccess& access, store::BlobStore& store, store::Parts& parts,
              streamcache::Cache& fills, runtime::DiskPool& pool, runtime::Filesystem& filesystem, const Clock& clock,
              runtime::TaskGroup& group, const Metrics& metrics);

  // `asked`: the ranges that are wanted, for what is not here; the answer may be the whole all the same.
  // Errors: the access check's and upstream's (upstream::Registry).
  runtime::Task<Result<Opened>> open(access::Route route, oci::Digest digest, http::RequestedRanges asked = {});

  struct Stat {
    std::optional<std::uint64_t>
        size;  // nothing where upstream does not tell it: what a manifest claims decides nothing
    access::CacheResult result = access::CacheResult::none;
    oci::Digest canonical;           // as in Opened
    std::string manifest_type = {};  // where it is one; else empty
    // It is stored, and upstream was only asked whether this repository may have it.
    bool asked_for_access = false;
  };
  // For HEAD: downloads nothing. Errors: as open.
  runtime::Task<Result<Stat>> stat(access::Route route, oci::Digest digest);

  // What stat() (`head_only`) or open() would answer now of what is at rest, without waiting and with CacheResult::hit;
  // nothing where they would do anything else. Counts nothing; notes the use of a file that is open.
  [[nodiscard]] std::optional<ReadyHit> peek(const access::Route& route, const oci::Digest& digest, bool head_only);
  void count_peek() { access_.count_peek(); }
  // Whether the file that is open still is what it was.
  [[nodiscard]] bool is_whole(const store::OpenBlob& blob) const { return store_.is_whole(blob); }

  // Fetches a blob that nobody has asked for yet: see Fills.
  runtime::Task<Result<Fills::Ahead>> fetch_ahead(access::Route route, oci::Digest digest) {
    return fills_.fetch_ahead(std::move(route), digest);
  }

  // The name under which the bytes of `digest` lie in the store; itself where no other is known.
  [[nodiscard]] oci::Digest canonical(const oci::Digest& digest) const { return access_.canonical(digest); }

  // Asks upstream whether that repository has a blob that is at rest, where it is not known yet, so that whoever asks
  // for the blob a moment later waits for less. It is asked behind all that somebody waits for, until somebody asks for
  // that blob. Nothing is asked about what is not here: fetching it tells. False where upstream has no time for such
  // questions.
  runtime::Task<bool> ask_ahead(access::Route route, oci::Digest digest);

  // While blobs cannot be stored: looks whether they can be again. To be called now and then.
  runtime::Task<void> try_store() { return fill_storage_.try_again(); }
  // An answer from the store broke off because the file could not be read.
  void suspect(const oci::Digest& digest) { store_.suspect(digest); }

  // All of an open blob, not hashed again. Blocks. Errors: io, corrupt (it is shorter than it was).
  [[nodiscard]] Result<std::string> read_whole(const store::OpenBlob& blob) const;

  // Lets go of what is in memory of a blob that is at rest no longer. Any thread.
  void forget(const oci::Digest& digest) { objects_.erase(digest); }

 private:
  runtime::Task<Result<std::shared_ptr<const ReadyObject>>> at_rest(oci::Digest digest, std::uint64_t size,
                                                                    std::string_view media_type);
  runtime::Task<Result<Opened>> in_flight(access::Route route, oci::Digest digest);
  runtime::Task<Result<std::string>> read_beginning(oci::Digest canonical, std::size_t bytes);

  const std::size_t in_memory_bytes_;
  access::BlobAccess& access_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  runtime::Filesystem& filesystem_;
  ObjectCache objects_;
  CanonicalNames names_;
  access::MembershipCheck membership_;
  FillStorage fill_storage_;
  Fills fills_;
  PassThrough pass_through_;
};

}  // namespace sluice::pull
