// BlobStore: blobs and manifests at rest, by digest. Layout, durability and crash points: docs/disk-format.md.
//
//   state   | start | find, peek_open, touch, stat, open, read_small | other tasks     | close_for_writes, stop
//   made    | once  | no                                             | no              | yes
//   running | no    | yes                                            | yes             | yes
//   closing | no    | yes, and nothing is dropped or noted           | shutting_down   | yes
//   stopped | no    | no                                             | no              | yes
//
// What has a final name was whole and verified when it got it. The index in memory answers what is there; a file that
// turns out to be missing, unreadable or of another length when it is opened is dropped, and the caller is told
// not_found, so that he fetches it again within the same request. When the catalog is lost the index is rebuilt by
// walking the files, while requests are served: during that time (`rebuilding`) a blob that `find` does not know may be
// there, and `stat` and `open` look on the disk before they say no.
//
// Threads: start and stop from the owner's thread; everything else from any thread. find, peek_open and touch do no I/O
// and take one or two short locks. The tasks do their work on the disk pool, in one piece: once begun it is finished
// even when the task is cancelled. The disk pool must have been stopped, or no task be left, before the store is
// destroyed. Owned by the composition root.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/size_limit.hpp"
#include "oci/digest.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task.hpp"
#include "store/blob_index.hpp"
#include "store/catalog.hpp"
#include "store/layout.hpp"
#include "store/ledger.hpp"
#include "store/media_types.hpp"
#include "store/open_files.hpp"
#include "store/origin.hpp"
#include "store/origin_sets.hpp"
#include "store/quarantine.hpp"

namespace sluice::store {

// How much is forced to the disk before a blob counts as stored (docs/disk-format.md, "What is durable when").
enum class Durability : std::uint8_t {
  none,  // nothing: after a power failure a blob may be missing, short (noticed when it is opened), or hold zeroes
  data,  // the file before it gets its name: after a power failure a blob is whole or not there
  full,  // and the directory after that: a blob that was stored is there
};

struct Stored {
  std::uint64_t size = 0;       // bytes
  std::string_view media_type;  // lives as long as the store; application/octet-stream when it is not known
  std::uint32_t last_used = 0;  // seconds since 1970, in steps of the touch granularity
  OriginSets::Id origins = OriginSets::kUnknown;  // through which upstreams it came
};

class BlobStore {
 public:
  struct Params {
    runtime::Path root;
    Durability durability = Durability::data;
    // Of the files below the root, those of SQLite included. The file system that is given makes files with it.
    unsigned file_mode = 0600;
    // Descriptors of hot blobs that are kept open; 0 keeps none.
    std::size_t open_files = 256;
    // A last use is noted when the one on record is at least this old.
    std::chrono::seconds touch_granularity{60};
    // The pause after each directory of the walk that looks for files that the catalog lacks. A rebuild does not pause.
    std::chrono::milliseconds walk_pause{50};
    // Catalog::Params::batch_delay.
    std::chrono::milliseconds catalog_delay{200};
    // Catalog::Params::max_tag_age.
    std::chrono::milliseconds max_tag_age{0};
    // What the files below the root may take, and what must stay free of their file system; off: no limit. Percentages
    // are of the file system. Neither is crossed by what reserves its room (docs/eviction.md).
    SizeLimit max_size;
    SizeLimit min_free;
    // Blobs that were not used for so long are evicted; 0: never.
    std::chrono::seconds max_age{0};
    // How long damaged blobs are kept in quarantine; 0: they are removed at once.
    std::chrono::seconds quarantine_max_age{std::chrono::hours{7 * 24}};
    // How many bytes a second are read again in the background (store/scrubber.hpp), 0: none; and how long a pass over
    // all blobs may wait after the one before has begun.
    std::uint64_t scrub_rate = 0;
    std::chrono::seconds scrub_interval{std::chrono::hours{7 * 24}};
    // How often the maintenance looks at the free space and at what the catalog takes.
    std::chrono::milliseconds maintenance_interval{1000};
  };

  BlobStore(Params params, runtime::Filesystem& filesystem, runtime::DiskPool& pool, const Clock& clock,
            metrics::Registry& registry);
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;
  ~BlobStore();

  // Makes the directories, takes the lock, removes what dead processes left in incoming/, loads the catalog and starts
  // the walk. Blocks. Errors: exists when another process holds the root (its pid is in the message); io, no_space.
  Result<void> start();
  // running → closing: ends upkeep, writes and closes the catalog and gives the lock up, so that another process may
  // take the root over while readers here go on with what is open, or still to be opened. From then on nothing on the
  // disk is changed. Blocks. Idempotent.
  void close_for_writes();
  // close_for_writes, and lets go of open files. Idempotent.
  void stop();

  // In the index? While that is incomplete `stat` knows more.
  [[nodiscard]] std::optional<Stored> find(const oci::Digest& digest) const;
  // The same, where that upstream may give it out: it has delivered the bytes itself, or they were fetched without a
  // login. What came through one upstream with a login is not given to those who ask another, which may only pretend to
  // have it.
  [[nodiscard]] std::optional<Stored> find(const oci::Digest& digest, std::string_view upstream) const;
  // Over when what find says of the digest may be something else; a use is no change.
  [[nodiscard]] Version::Watch watch(const oci::Digest& digest) const noexcept { return index_.watch(digest); }
  [[nodiscard]] bool permits(const Stored& stored, std::string_view upstream) const noexcept {
    return origin_sets_.permits(stored.origins, upstream);
  }
  // The upstream has delivered the bytes of a blob that is at rest already. Does nothing for one that is not.
  runtime::Task<void> add_origin(oci::Digest digest, Origin origin);
  // The index may lack blobs that are there: until the walk after the start has ended. After a crash these are what was
  // stored in the last moments before it.
  [[nodiscard]] bool incomplete() const noexcept { return !walked_.load(std::memory_order_acquire); }
  // The index is not complete because the catalog was lost, and most of it may be missing.
  [[nodiscard]] bool rebuilding() const noexcept { return rebuilding_.load(std::memory_order_acquire); }
  // find, and while the index is incomplete a look at the disk. Errors: not_found, io.
  runtime::Task<Result<Stored>> stat(oci::Digest digest);

  // The blob when its file is open already; else null, which says nothing. Notes the use.
  [[nodiscard]] std::shared_ptr<const OpenBlob> peek_open(const oci::Digest& digest);
  // Whether the file has the length that it had when it was opened. One system call.
  [[nodiscard]] bool is_whole(const OpenBlob& blob) const;
  // Errors: not_found (also for a file that was missing, unreadable or of another length, and has been dropped), io
  // (during a rebuild), overloaded (too many open files).
  runtime::Task<Result<std::shared_ptr<const OpenBlob>>> open(oci::Digest digest);

  // Makes `room` enough for a file of `size_bytes`, before it is written; evicts where that is needed, which may take a
  // moment. Errors: no_space (the blob has no place within the limits: go on without storing it), shutting_down.
  runtime::Task<Result<void>> reserve(Reservation& room, std::uint64_t size_bytes);

  // Takes a whole, verified file (under incoming/, or elsewhere on the same file system) into its final place. One that
  // is there already is replaced; its readers keep the old file. `room` is what was reserved for it, and is used up;
  // the other form reserves it. On an error `from` and `room` are left to the caller. Errors: not_found (no `from`),
  // size_mismatch (its length is not `size`), no_space, io. `origin`: through which upstream the bytes came; without
  // one every upstream has to deliver them once more before it may give out the file.
  runtime::Task<Result<void>> adopt(runtime::Path from, oci::Digest digest, std::uint64_t size, std::string media_type,
                                    Reservation& room, Origin origin = {});
  runtime::Task<Result<void>> adopt(runtime::Path from, oci::Digest digest, std::uint64_t size, std::string media_type);
  // Stores bytes that the caller has verified; for small objects. Errors: no_space, io; nothing is left behind.
  runtime::Task<Result<void>> put(oci::Digest digest, std::string bytes, std::string media_type, Origin origin = {});
  // The whole content, its digest checked again: bytes that do not match are dropped and reported as not_found.
  // Errors: not_found, size_mismatch (longer than `limit`), and those of open.
  runtime::Task<Result<std::string>> read_small(oci::Digest digest, std::size_t limit);
  // Removes file, index entry and catalog row; memberships stay. Open readers are not disturbed.
  // Errors: not_found, io.
  runtime::Task<Result<void>> remove(oci::Digest digest);

  // Notes that the blob was used now; peek_open, open and read_small do it themselves. Cheap: written in batches.
  void touch(const oci::Digest& digest);

  [[nodiscard]] std::uint64_t bytes() const noexcept { return index_.bytes(); }
  [[nodiscard]] std::size_t entries() const noexcept { return index_.entries(); }

  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
  [[nodiscard]] Catalog& catalog() noexcept { return catalog_; }
  [[nodiscard]] const Catalog& catalog() const noexcept { return catalog_; }

  // --- For the verifier. All of it blocks.

  // See BlobIndex.
  void for_each_blob(const std::function<void(const BlobIndex::Blob&)>& visit) const { index_.for_each(visit); }
  [[nodiscard]] std::vector<BlobIndex::Blob> blobs_between(std::uint8_t first, std::uint8_t last) const {
    return index_.between(first, last);
  }
  struct Checked {
    enum class State : std::uint8_t {
      sound,
      damaged,     // other bytes, or another length
      missing,     // no file
      unreadable,  // the disk failed
      gone,        // it was not there, or was removed or replaced meanwhile
      stopped      // by on_bytes
    };
    State state = State::sound;
    std::string reason = {};            // what is wrong with it
    runtime::Path quarantined_to = {};  // empty: it is not there
    bool dropped = false;               // the store has forgotten it
  };
  // Reads the blob and compares its digest. One that is damaged, missing or unreadable is dropped, its file goes into
  // quarantine. `on_bytes` is called with the length of each piece that was read; false ends it.
  Checked check(const oci::Digest& digest, const std::function<bool(std::uint64_t)>& on_bytes);
  // For who could not read a blob that is open: has it checked soon. Does not block.
  void suspect(const oci::Digest& digest);
  // Blocks until the suspects are checked and a scrub that is due has ended: for tests. Only while running.
  void scrub();
  // Between start and close_for_writes.
  [[nodiscard]] bool running() const noexcept { return running_.load(std::memory_order_acquire); }

  // Told of each blob that is evicted, removed or taken out because it is damaged, on the thread that did it, without a
  // lock of the store. Before start.
  void set_on_evicted(std::function<void(const oci::Digest&)> on_evicted);
  // Told what is wrong with the catalog or the directory, "" when it is well again; on some thread. Before start.
  void set_on_trouble(std::function<void(const std::string& why)> on_trouble);
  // Whether a file can be written and forced to the disk, after something could not. Blocks. Errors: no_space, io.
  Result<void> try_write();

  // Blocks until the maintenance has measured and evicted once more: for tests and for commands. Only while running.
  void maintain();
  [[nodiscard]] const Ledger& ledger() const noexcept { return ledger_; }
  [[nodiscard]] Ledger& ledger() noexcept { return ledger_; }
  // Asked on the maintenance thread to remove files that count as idle in the ledger, such as parts, that have waited
  // for `idle` or longer, until `bytes` are free; says how many are. Before start.
  using GiveUp = std::function<std::uint64_t(std::uint64_t bytes, std::chrono::seconds idle)>;
  void set_give_up(GiveUp give_up);

  // Blocks until the walk that start() began has ended: for tests and for commands that need the whole index.
  void wait_for_walk();

 private:
  struct Metrics {
    explicit Metrics(metrics::Registry& registry);
    metrics::Gauge& bytes;
    metrics::Gauge& entries;
    metrics::Gauge& rebuilding;
    metrics::Counter& dropped;
    metrics::Counter& open_errors;
    metrics::Counter& read_errors;
    metrics::Counter& write_errors;
    metrics::Counter& remove_errors;
    metrics::Counter& walk_errors;
  };
  class Walker;
  class Evictor;
  class Scrubber;

  Result<void> take_lock();
  void set_modes();
  void set_mode(const runtime::Path& path, unsigned mode);
  // What the commit lock says: whether files, index and catalog may be changed. Under the commit lock.
  [[nodiscard]] bool writable() const noexcept { return writable_.load(std::memory_order_acquire); }
  void mend_root();
  void give_blobs(const std::function<void(std::span<const Catalog::BlobRow>)>& take) const;
  void clean_incoming();
  Catalog::Loaded load_catalog();

  Checked open_to_check(const oci::Digest& digest, runtime::File& file, std::uint64_t& size);
  Checked read_to_check(const oci::Digest& digest, const runtime::File& file, std::uint64_t size,
                        const std::function<bool(std::uint64_t)>& on_bytes);
  void recall_condemned(const std::map<std::string, std::string>& meta);
  void remember_condemned(const oci::Digest& digest);
  void pardon(const oci::Digest& digest);
  bool condemned(const oci::Digest& digest);
  Checked condemn(const oci::Digest& digest, const runtime::File* file, Checked::State state, const Error& why);

  // Blocking; on the disk pool or the walker's thread.
  Result<Stored> stat_blocking(const oci::Digest& digest);
  Result<std::shared_ptr<const OpenBlob>> open_blocking(const oci::Digest& digest);
  Result<void> settle_doubt(const oci::Digest& digest);
  runtime::Task<Result<void>> settle(oci::Digest digest);
  void run_settling(const oci::Digest& digest);
  Checked refuse(const oci::Digest& digest, const Error& why);
  void correct_size(const oci::Digest& digest, std::uint64_t size);
  [[nodiscard]] bool vouched(const oci::Digest& digest, const runtime::FileStatus& status);
  void vouch(const oci::Digest& digest, const runtime::FileStatus& status);
  Result<void> adopt_blocking(const runtime::Path& from, const oci::Digest& digest, std::uint64_t size,
                              const std::string& media_type, Reservation& room, const Origin& origin);
  Result<void> put_blocking(const oci::Digest& digest, const std::string& bytes, const std::string& media_type,
                            Reservation& room, const Origin& origin);
  void add_origin_blocking(const oci::Digest& digest, const Origin& origin);
  void mark_public(const runtime::Path& path, bool is_public);
  Result<std::string> read_small_blocking(const oci::Digest& digest, std::size_t limit);
  Result<void> remove_blocking(const oci::Digest& digest);
  Result<void> write_new(const runtime::Path& path, const std::string& bytes);
  Result<void> publish(const runtime::Path& from, const oci::Digest& digest);
  Result<std::optional<IndexEntry>> probe(const oci::Digest& digest);
  Result<OpenBlob> open_checked(const oci::Digest& digest);

  void enter(const oci::Digest& digest, std::uint64_t size, std::string_view media_type, Reservation& room,
             const Origin& origin);
  [[nodiscard]] Stored stored(const IndexEntry& entry) const;
  [[nodiscard]] Catalog::BlobRow row(const oci::Digest& digest, const IndexEntry& entry) const;
  bool forget(const oci::Digest& digest);
  Error drop(const oci::Digest& digest, const Error& why, const runtime::File* file = nullptr);
  Error write_failed(Error error);
  void show_totals();
  [[nodiscard]] std::uint32_t now_seconds() const;
  [[nodiscard]] std::mutex& commit_lock(const oci::Digest& digest) noexcept;

  const Params params_;
  const Layout layout_;
  runtime::Filesystem& filesystem_;
  runtime::DiskPool& pool_;
  const Clock& clock_;
  Metrics metrics_;
  MediaTypes media_types_;
  OriginSets origin_sets_;
  BlobIndex index_;
  Ledger ledger_;
  Quarantine quarantine_;
  OpenFiles open_files_;
  Catalog catalog_;
  runtime::File lock_;
  std::atomic<std::uint64_t> next_temporary_{0};
  std::atomic<bool> rebuilding_{false};
  std::atomic<bool> walked_{false};
  std::atomic<bool> running_{false};
  std::atomic<bool> writable_{true};
  const std::uint64_t temporary_id_;  // tells our temporary files from those of another process
  bool started_ = false;              // the owner's thread alone

  // Each serialises the steps that change the file and the index entry of one digest (those whose digests share it),
  // so that the two cannot disagree. Held across disk work, therefore taken on the disk pool and by the walker only.
  // Many, so that a rename that the disk takes its time for hardly ever holds up the opening of another blob.
  std::array<std::mutex, 1024> commit_locks_;

  // Damaged blobs whose files could neither be moved nor removed: what is under their names is not entered again until
  // it is replaced. When they are too many, no file that the index lacks is.
  std::mutex condemned_mutex_;
  std::set<oci::Digest> condemned_;
  bool all_condemned_ = false;

  // Blobs whose files have other names too (`sluice import` links), and were hashed: when their files had last changed.
  std::mutex vouched_mutex_;
  std::map<oci::Digest, std::chrono::system_clock::time_point> vouched_;

  // Who waits for the same file to be hashed; each is resumed on its own loop.
  using Settled = std::function<void(const Result<void>&)>;
  std::mutex settling_mutex_;  // guards settling_
  std::map<oci::Digest, std::vector<Settled>> settling_;

  std::atomic<std::uint64_t> shelves_made_{0};  // since the directories were measured

  std::function<void(const std::string&)> on_trouble_;
  bool root_lost_ = false;  // the maintenance thread alone

  std::unique_ptr<Walker> walker_;
  std::unique_ptr<Evictor> evictor_;
  std::unique_ptr<Scrubber> scrubber_;
};

}  // namespace sluice::store
