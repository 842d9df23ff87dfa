// Blobs for the proxy: from the store, from a fill in flight, or by a fill of their own.
//
//   store.find ──has it──▶ may this repository see it? ──▶ at rest: a ReadyObject
//        ├─not there──▶ join the fill, or start one ──▶ in flight: a Stream, once upstream has told the size
//        └─nor wanted as a whole──▶ may this repository see it? ──▶ passed through: DirectRanges
//
// What is stored is there for the upstreams that have delivered it, and for all others where it was fetched without a
// login (store/origin_sets.hpp). To another one it is as if it were not there: a fill fetches it from that upstream,
// which its clients get, and when the digest is right the file is dropped and the upstream noted beside the stored one.
//
// A blob that is asked for by sha512 or sha384 is kept under its sha256 (blob_access.hpp), so it is one file, and one
// fill, whatever it is called. A fill of such a blob computes both digests.
//
// One fill for a digest at an upstream, whoever asks: it runs in the task group, hashes behind what it writes, goes on
// from where a connection broke, or from the part that an earlier one left, and hands the file to the store when the
// digest is right; when it breaks for good, is given up or cancelled it leaves a part itself. Upstreams have fills of
// their own, so that one's trouble is nothing to those who ask another. A repository that joins another one's fill has
// its own access check.
//
// Threads: all functions may be called from any loop. Fills must have ended before this is destroyed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.hpp"
#include "base/sieve_map.hpp"
#include "http/range.hpp"
#include "proxy/access_log.hpp"
#include "proxy/blob_access.hpp"
#include "proxy/canonical_names.hpp"
#include "proxy/direct_ranges.hpp"
#include "proxy/metrics.hpp"
#include "proxy/ready_object.hpp"
#include "proxy/upstreams.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/single_flight.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"
#include "store/parts.hpp"
#include "streamcache/cache.hpp"

namespace sluice::proxy {

// Up to this size a blob from behind a redirect is given out when its digest is right, and not before.
inline constexpr std::uint64_t kHeldWholeBytes = 1024 * 1024;

class BlobService {
 public:
  struct Params {
    // Blobs up to this size are answered from memory when they are at rest. Above, sendfile is cheaper.
    std::size_t in_memory_bytes = 8 * 1024;
    // How much of such blobs and of ready heads is kept.
    std::uint64_t memory_bytes = 16 * 1024 * 1024;
    // One read from upstream, one step of what readers see.
    std::size_t read_bytes = 256 * 1024;
    // How often in a row a broken download is taken up again without a byte in between, and the first wait before that
    // (doubled each time, with jitter, up to 5 s).
    std::size_t resume_attempts = 5;
    std::chrono::milliseconds resume_backoff{200};
    // How long a fill whose readers take nothing keeps its connection to upstream, of which there are few. Later it
    // asks for the rest. 0: for ever.
    std::chrono::milliseconds window_patience{10'000};
    // Whether ranges of what is not here may be fetched by themselves (direct_ranges.hpp).
    bool direct_ranges = true;
    // How much of a blob is passed through so before it is fetched whole.
    std::uint64_t range_limit_bytes = 8 * 1024 * 1024;
    // What begins no further ahead of what a fill has is waited for.
    std::uint64_t range_ahead_bytes = 8 * 1024 * 1024;
    // Told, on some thread, when new blobs cannot be stored any more: why; and "" when they can be again.
    std::function<void(const std::string& why)> on_store_trouble;
  };

  struct Opened {
    CacheResult result = CacheResult::none;
    std::shared_ptr<const ReadyObject> object;    // at rest; else null and:
    std::unique_ptr<streamcache::Stream> stream;  // in flight
    std::optional<std::uint64_t> size;            // of the stream, where upstream told
    oci::Digest canonical;                        // the name under which it lies, or will lie, as far as it is known
    std::unique_ptr<DirectRanges> direct;         // or neither of the two: the ranges, from upstream
    std::string manifest_type = {};               // of what is not at rest and is a manifest; else empty
  };

  BlobService(Params params, BlobAccess& access, store::BlobStore& store, store::Parts& parts,
              streamcache::Cache& fills, runtime::DiskPool& pool, runtime::Filesystem& filesystem, const Clock& clock,
              runtime::TaskGroup& group, const Metrics& metrics);

  // `asked`: the ranges that are wanted, for what is not here; the answer may be the whole all the same.
  // Errors: the access check's and upstream's (upstream::Registry).
  runtime::Task<Result<Opened>> open(Route route, oci::Digest digest, http::RequestedRanges asked = {});

  struct Stat {
    std::uint64_t size = 0;
    CacheResult result = CacheResult::none;
    oci::Digest canonical;           // as in Opened
    std::string manifest_type = {};  // where it is one; else empty
  };
  // For HEAD: downloads nothing. Errors: as open.
  runtime::Task<Result<Stat>> stat(Route route, oci::Digest digest);

  // What stat() (`head_only`) or open() would answer now of what is at rest, without waiting and with CacheResult::hit;
  // nothing where they would do anything else. Counts nothing; notes the use of a file that is open.
  [[nodiscard]] std::optional<ReadyHit> peek(const Route& route, const oci::Digest& digest, bool head_only);
  void count_peek() { access_.count_peek(); }
  // Whether the file that is open still is what it was.
  [[nodiscard]] bool is_whole(const store::OpenBlob& blob) const { return store_.is_whole(blob); }

  // What became of a blob that was to be fetched before anybody asks for it.
  enum class Ahead : std::uint8_t {
    fetched,
    handed_over,  // somebody has asked for it meanwhile; from there on it was his
    present,      // it was here, or on its way already
    no_room,      // it cannot be stored, so it would be fetched in vain
  };
  // Fetches it with a route that has an `urgency`, to the end or until somebody asks for it. What is read of it goes to
  // the disk as fast as upstream gives it. Errors: upstream's.
  runtime::Task<Result<Ahead>> fetch_ahead(Route route, oci::Digest digest);

  // The name under which the bytes of `digest` lie in the store; itself where no other is known.
  [[nodiscard]] oci::Digest canonical(const oci::Digest& digest) const { return access_.canonical(digest); }

  // Asks upstream whether that repository has a blob that is at rest, where it is not known yet, so that whoever asks
  // for the blob a moment later waits for less. Nothing is asked about what is not here: fetching it tells.
  runtime::Task<void> ask_ahead(Route route, oci::Digest digest);

  // Under which a download is known to the streaming cache.
  static std::string fill_key(std::string_view upstream, const oci::Digest& digest);

  // While blobs cannot be stored: looks whether they can be again. To be called now and then.
  runtime::Task<void> try_store();
  // An answer from the store broke off because the file could not be read.
  void suspect(const oci::Digest& digest) { store_.suspect(digest); }

  // Lets go of what is in memory of a blob that is at rest no longer. Any thread.
  void forget(const oci::Digest& digest) { objects_.erase(digest); }

 private:
  friend class DirectRanges;

  runtime::Task<Result<BlobAccess::Known>> allowed(Route route, oci::Digest digest);
  // The same for a blob of `size` bytes that is at rest. An upstream that does not tell how long it is, and begins to
  // send it, has it all the same.
  runtime::Task<Result<BlobAccess::Known>> allowed_at_rest(Route route, oci::Digest digest, std::uint64_t size);
  // Where only a manifest has told the size, upstream is asked for it.
  runtime::Task<Result<BlobAccess::Known>> with_size(Route route, oci::Digest digest, BlobAccess::Known known);
  runtime::Task<Result<BlobAccess::Known>> ask_allowed(Route route, oci::Digest digest);
  runtime::Task<std::optional<store::Stored>> look_for_stored(oci::Digest canonical, std::string_view upstream);
  runtime::Task<Result<std::shared_ptr<const ReadyObject>>> at_rest(oci::Digest digest, std::uint64_t size,
                                                                    std::string_view media_type);
  runtime::Task<bool> gives_out(Route route, oci::Digest digest);
  runtime::Task<Result<Opened>> in_flight(Route route, oci::Digest digest);
  runtime::Task<Result<streamcache::Lookup>> look_up(Route route, oci::Digest digest);
  void raise(const std::string& key);
  [[nodiscard]] std::string key_of(const Route& route, const oci::Digest& digest) const;
  void hold_until_begun(const runtime::Executor& executor, const std::string& key,
                        std::unique_ptr<streamcache::Stream> stream);
  runtime::Task<void> wait_until_begun(std::unique_ptr<streamcache::Stream> stream, std::shared_ptr<void> place);
  // Lists the urgency of a download for raise(), as long as it lives.
  class ListedUrgency {
   public:
    ListedUrgency(BlobService& owner, std::string key, std::shared_ptr<upstream::Urgency> urgency);
    ListedUrgency(const ListedUrgency&) = delete;
    ListedUrgency& operator=(const ListedUrgency&) = delete;
    ~ListedUrgency();

   private:
    BlobService& owner_;
    const std::string key_;
    const std::shared_ptr<upstream::Urgency> urgency_;
  };

  // Ranges of what is not here (direct_ranges.cpp).
  enum class RangeWay : std::uint8_t { fill, direct, direct_and_fill };
  struct Passed {
    std::uint64_t bytes = 0;  // of the blob, in ranges
    bool refused = false;     // upstream has answered a range with the whole
  };
  runtime::Task<Result<std::optional<Opened>>> direct(Route route, oci::Digest digest, http::RequestedRanges asked);
  RangeWay way_of(const std::string& key, const std::vector<http::ByteRange>& ranges, std::uint64_t size,
                  std::optional<std::uint64_t> have);
  void fetch_behind(const runtime::Executor& executor, Route route, const oci::Digest& digest);
  runtime::Task<void> fetch_unasked(Route route, oci::Digest digest, std::shared_ptr<void> place);

  // What a fill holds: its place in the store, and when it began to ask.
  struct Room {
    store::Reservation reservation;
    Revocations::Ticket ticket;
  };
  struct Download;

  // The producer of a fill (fill.cpp).
  // `part_room`: of the part in the writer's file, if there is one.
  runtime::Task<Result<void>> fill(Route route, oci::Digest digest, std::shared_ptr<streamcache::Writer> writer,
                                   std::shared_ptr<store::Reservation> part_room);
  runtime::Task<Result<void>> receive(Route route, oci::Digest digest, streamcache::Writer& writer,
                                      class TrailingVerifier& verifier, Room& room);
  runtime::Task<Result<void>> make_room(Download& download, std::uint64_t end);
  runtime::Task<void> receive_into(Result<void>* outcome, Route route, oci::Digest digest, streamcache::Writer& writer,
                                   class TrailingVerifier& verifier, Room& room);
  static bool must_yield(Download& download);
  runtime::Task<Result<void>> begin(Download& download, upstream::BlobBody& body);
  runtime::Task<Result<void>> move(Download& download, std::unique_ptr<upstream::BlobBody>& body);
  void hold_back(Download& download, const upstream::BlobBody& body);
  runtime::Task<Result<bool>> settle_part(Download& download, Result<std::unique_ptr<upstream::BlobBody>>& body);
  runtime::Task<bool> is_right(Download& download, std::uint64_t part);
  runtime::Task<Result<void>> drop_part(streamcache::Writer& writer);
  runtime::Task<Result<void>> verify(Route route, oci::Digest digest, streamcache::Writer& writer,
                                     class TrailingVerifier& verifier);
  runtime::Task<void> keep_part(oci::Digest digest, streamcache::Writer& writer, Room& room);
  // Whether it is in the store now.
  runtime::Task<bool> keep(oci::Digest digest, oci::Digest asked, streamcache::Writer& writer, Room& room,
                           std::string media_type, store::Origin origin);
  [[nodiscard]] bool unwanted(const Room& room, const Route& route, const oci::Digest& digest) const;
  runtime::Task<void> remember_verified(descriptors::Scope scope, oci::Digest digest, oci::Digest canonical,
                                        std::uint64_t size, const Revocations::Ticket& ticket);
  void note_type(const std::string& key, std::string_view media_type);
  // Empty: of no manifest.
  [[nodiscard]] std::string told_type(const std::string& key);
  void note_store(const std::optional<Error>& trouble);
  runtime::Task<void> remove_file(streamcache::Writer& writer);
  runtime::Task<void> back_off(std::size_t failures);

  const Params params_;
  BlobAccess& access_;
  store::BlobStore& store_;
  store::Parts& parts_;
  streamcache::Cache& fills_;
  runtime::DiskPool& pool_;
  runtime::Filesystem& filesystem_;
  runtime::TaskGroup& group_;
  const Metrics metrics_;
  ObjectCache objects_;
  CanonicalNames names_;
  std::atomic<Errc> trouble_{Errc::internal};  // of storing: no_space or io; internal: none
  std::mutex urgencies_mutex_;                 // guards urgencies_
  // Of all downloads, by their keys.
  std::unordered_multimap<std::string, std::shared_ptr<upstream::Urgency>> urgencies_;
  std::mutex held_mutex_;  // guards held_
  // Downloads that have a reader in place of the clients whose time was up, by their keys.
  std::unordered_set<std::string> held_;
  // Downloads of the whole that a range has started and nobody waits for.
  const std::shared_ptr<std::atomic<std::size_t>> behind_ = std::make_shared<std::atomic<std::size_t>>(0);
  // Short answers, one for all who ask for the same at the same time.
  runtime::SingleFlight<std::string, std::shared_ptr<const std::string>> short_ranges_;
  std::mutex types_mutex_;                           // guards types_
  SieveMap<std::string, std::string> types_{1'000};  // of manifests that are fetched as blobs, by the keys of fills
  std::mutex passed_mutex_;                          // guards passed_
  SieveMap<std::string, Passed> passed_{10'000};     // by the keys of fills
};

}  // namespace sluice::proxy
