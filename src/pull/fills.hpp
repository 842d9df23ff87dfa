// Fills: the downloads of blobs that run, each for all who want it.
//
// One fill for a digest at an upstream, whoever asks: it runs in the task group, hashes behind what it writes, goes on
// from where a connection broke, or from the part that an earlier one left, and hands the file to the store when the
// digest is right; when it breaks for good, is given up or cancelled it leaves a part itself. Upstreams have fills of
// their own, so that one's trouble is nothing to those who ask another. A repository that joins another one's fill has
// its own access check (BlobService).
//
//   a fill     Download ──bytes──▶ Writer ──▶ readers          FillMachine: what next; Download: does it
//                     └─positions─▶ TrailingVerifier ──digest──▶ FillStorage: a blob, a part, or nothing
//
// A blob that is asked for by sha512 or sha384 is kept under its sha256 (blob_access.hpp), so it is one file, and one
// fill, whatever it is called. A fill of such a blob computes both digests.
//
// Threads: all functions may be called from any loop. Fills must have ended before this is destroyed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "access/blob_access.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/recurring_log.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "pull/download.hpp"
#include "pull/fill_storage.hpp"
#include "pull/metrics.hpp"
#include "pull/told_types.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"
#include "streamcache/cache.hpp"
#include "upstream/urgencies.hpp"

namespace sluice::pull {

// What the store has of it for clients of that upstream, with a look at the disk: for while it is not known yet what
// the store has. `upstream` lives until then.
runtime::Task<std::optional<store::Stored>> look_for_stored(store::BlobStore& store, oci::Digest canonical,
                                                            std::string_view upstream);

class Fills {
 public:
  // `forget` is called for a blob that was in the store for a moment, and is removed.
  Fills(const TransferParams& params, std::function<void(const oci::Digest&)> forget, FillStorage& storage,
        access::BlobAccess& access, store::BlobStore& store, streamcache::Cache& cache, runtime::DiskPool& pool,
        runtime::Filesystem& filesystem, const Clock& clock, runtime::TaskGroup& group, const Metrics& metrics);
  Fills(const Fills&) = delete;
  Fills& operator=(const Fills&) = delete;
  ~Fills();

  // Of the fill of a blob, whichever of its names is asked for.
  [[nodiscard]] std::string key(const access::Route& route, const oci::Digest& digest) const;

  // Joins the fill of that blob, or starts one. The stream's errors: superseded, the blob was stored meanwhile; those
  // of Download::run; digest_mismatch.
  runtime::Task<Result<streamcache::Lookup>> join_or_start(access::Route route, oci::Digest digest);
  // How much of it can be read by now; nothing where no fill runs.
  [[nodiscard]] std::optional<std::uint64_t> readable(const std::string& key) { return cache_.readable(key); }
  // The media type that upstream told of the blob in its last answer, where it is a manifest's; else empty.
  [[nodiscard]] std::string told_type(const access::Route& route, const oci::Digest& digest) {
    return told_types_.find(fill_key(access::origin_name(route), digest));
  }
  // The size that upstream told of it there.
  [[nodiscard]] std::optional<std::uint64_t> told_size(const access::Route& route, const oci::Digest& digest) {
    return told_types_.find_size(fill_key(access::origin_name(route), digest));
  }

  // Reads `stream` in place of a client whose time was up, until upstream has begun to answer.
  void hold_until_begun(const runtime::Executor& executor, const std::string& key,
                        std::unique_ptr<streamcache::Stream> stream);

  // What became of a blob that was to be fetched before anybody asks for it.
  enum class Ahead : std::uint8_t {
    fetched,
    handed_over,  // somebody has asked for it meanwhile; from there on it was his
    present,      // it was here, or on its way already
    no_room,      // it cannot be stored, so it would be fetched in vain
  };
  // Fetches it with a route that has an `urgency`, to the end or until somebody asks for it. What is read of it goes to
  // the disk as fast as upstream gives it. Errors: upstream's.
  runtime::Task<Result<Ahead>> fetch_ahead(access::Route route, oci::Digest digest);

 private:
  // What a fill holds: its place in the store, and when it began to ask.
  struct Room {
    store::Reservation reservation;
    access::Revocations::Ticket ticket;
  };

  runtime::Task<Result<void>> run(access::Route route, oci::Digest digest, std::shared_ptr<streamcache::Writer> writer,
                                  std::shared_ptr<store::Reservation> part_room);
  runtime::Task<Result<void>> download(access::Route route, oci::Digest digest, streamcache::Writer& writer,
                                       TrailingVerifier& verifier, Room& room);
  runtime::Task<Result<void>> verify(access::Route route, oci::Digest digest, streamcache::Writer& writer,
                                     TrailingVerifier& verifier);
  runtime::Task<void> keep_verified(access::Route route, oci::Digest digest, oci::Digest canonical,
                                    streamcache::Writer& writer, Room& room);
  runtime::Task<void> remember_verified(descriptors::Scope scope, oci::Digest digest, oci::Digest canonical,
                                        std::uint64_t size, const access::Revocations::Ticket& ticket);
  void report_failure(const Error& error, const access::Route& route, const oci::Digest& digest, std::uint64_t bytes);
  [[nodiscard]] bool unwanted(const Room& room, const access::Route& route, const oci::Digest& digest) const;
  runtime::Task<void> wait_until_begun(std::unique_ptr<streamcache::Stream> stream, std::shared_ptr<void> place);

  const std::function<void(const oci::Digest&)> forget_;
  FillStorage& storage_;
  access::BlobAccess& access_;
  store::BlobStore& store_;
  streamcache::Cache& cache_;
  runtime::DiskPool& pool_;
  runtime::Filesystem& filesystem_;
  runtime::TaskGroup& group_;
  const Metrics metrics_;
  upstream::Urgencies urgencies_;
  ToldTypes told_types_;
  RecurringLog log_;
  const Download::Shared shared_;
  std::mutex held_mutex_;  // guards held_
  // Fills that have a reader in place of the clients whose time was up, by their keys.
  std::unordered_set<std::string> held_;
};

}  // namespace sluice::pull
