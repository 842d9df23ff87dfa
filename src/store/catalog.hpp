// Catalog: what the store remembers besides the bytes: sizes and media types of blobs, which repository has been said
// to have which blob (membership), and what tags point at. All of it in memory, with a copy in SQLite that one thread
// of its own writes behind, in batches. No request ever waits for SQLite.
//
//   state   | memory side | load | flush
//   made    | no          | once | no
//   running | yes         | no   | yes       after load() returned, whatever it returned
//   closed  | yes         | no   | no-op     changes are dropped
//
// Losing the file between two runs costs a walk of the blobs, and one question to upstream for each membership and tag;
// never a blob. When it is lost or damaged while the program runs it is made again, with all that is in memory. When
// SQLite cannot be written, changes wait, bounded, and are tried again; beyond the bound they are dropped (additions
// first), and the whole is written once it can be.
//
// Threads: load and close from the thread that owns the store; everything else from any thread, without I/O, except
// flush, which blocks. Owned by the BlobStore, which calls what is below "for the store".
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/version.hpp"
#include "descriptors/scope.hpp"
#include "oci/descriptor.hpp"
#include "oci/media_type.hpp"
#include "runtime/filesystem.hpp"
#include "store/media_types.hpp"

namespace sluice::store {

using descriptors::Scope;
class CatalogFile;
struct Change;

// Upstream has said that the scope's repository has the blob (or, in the global scope: some repository has it).
struct Membership {
  oci::Descriptor descriptor;  // its digest is the canonical one, mostly the digest asked for
  Clock::Wall checked_at;      // when upstream said so
};

// What a tag pointed at for clients that accept these manifest types.
struct TagRecord {
  oci::Digest digest;
  oci::ManifestClass accept_class = 0;
  Clock::Wall checked_at;
};

struct NamedTag {
  std::string name;
  TagRecord record;
};

struct Member {
  oci::Digest digest;
  Membership membership;
};

class Catalog {
 public:
  struct Params {
    runtime::Path file;
    // How long a change may wait for others to be written with it.
    std::chrono::milliseconds batch_delay{200};
    // Written at once when this many changes wait.
    std::size_t batch_changes = 512;
    // How many changes may wait while SQLite cannot be written.
    std::size_t max_pending = 100'000;
    // How long to leave SQLite alone after it failed.
    std::chrono::milliseconds retry_delay{5000};
    // How many memberships and tags are kept, in memory and in the file, and what all of it may take of memory. Beyond,
    // those go that upstream has confirmed longest ago, which costs one question to upstream each.
    std::size_t max_memberships = 500'000;
    std::size_t max_tags = 200'000;
    std::size_t max_bytes = std::size_t{192} << 20;
    // How long a tag is kept that upstream has not confirmed, while it confirms others; 0: for ever.
    std::chrono::milliseconds max_tag_age{0};
  };

  Catalog(Params params, runtime::Filesystem& filesystem, const Clock& clock, MediaTypes& media_types,
          metrics::Registry& registry);
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;
  ~Catalog();

  // --- Membership. Thread-safe, no I/O.

  [[nodiscard]] std::optional<Membership> membership(const Scope& scope, const oci::Digest& digest) const;
  // Overwrites; `checked_at` is now.
  void set_membership(const Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor);
  // The same, unless it is there; whether it was set.
  bool add_membership(const Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor);
  // Of what upstream said at `checked_at`.
  bool add_membership(const Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor,
                      Clock::Wall checked_at);
  // Whether it was there.
  bool clear_membership(const Scope& scope, const oci::Digest& digest);
  // The repositories that have the blob, sorted; the global scope is not among them. Walks all scopes.
  [[nodiscard]] std::vector<std::string> scopes_of(const oci::Digest& digest) const;

  // What the repository has, sorted by digest.
  [[nodiscard]] std::vector<Member> members(const Scope& scope) const;

  // --- Tags. Thread-safe, no I/O.

  [[nodiscard]] std::optional<TagRecord> tag(const Scope& scope, std::string_view tag,
                                             oci::ManifestClass accept_class) const;
  // Over when any record of the tag is set, renewed or forgotten.
  [[nodiscard]] Version::Watch watch_tag(const Scope& scope, std::string_view tag) const noexcept;
  // Overwrites; `checked_at` is now. Setting the digest it has already renews it.
  void set_tag(const Scope& scope, std::string_view tag, oci::ManifestClass accept_class, const oci::Digest& digest);
  // Of what upstream said at `checked_at`, unless there is one; whether it was set.
  bool add_tag(const Scope& scope, std::string_view tag, oci::ManifestClass accept_class, const oci::Digest& digest,
               Clock::Wall checked_at);
  // For all accept classes; whether there was one.
  bool clear_tag(const Scope& scope, std::string_view tag);
  // Sorted, each once.
  [[nodiscard]] std::vector<std::string> tags(const Scope& scope) const;

  // Forgets the memberships and tags of all repositories of that upstream; whether there were any. What is added at the
  // same time from other threads may be lost at the next start.
  bool forget_upstream(std::string_view name);

  // All records, sorted by tag; one tag has several where clients accept different types.
  [[nodiscard]] std::vector<NamedTag> tag_records(const Scope& scope) const;

  // Every scope that has a membership or a tag, sorted, without the global one.
  [[nodiscard]] std::vector<std::string> repositories() const;
  // Over when there is another one, or one fewer.
  [[nodiscard]] Version::Watch watch_repositories() const noexcept;

  // --- For the store.

  struct BlobRow {
    oci::Digest digest;
    std::uint64_t size = 0;
    MediaTypes::Id media_type = MediaTypes::kOctetStream;
    std::uint32_t last_used = 0;  // seconds since 1970
    std::string origins = {};     // OriginSets::text
  };

  struct Loaded {
    // The rows are all the blobs there are, but for a few of the last moments before a crash. False when the catalog
    // is new, or was lost, or the walk that refills it has never ended: then the blobs must be walked.
    bool complete = false;
    // Why the file that was there could not be used, and what became of it; empty when it could, or when there was
    // none.
    std::string discarded;
    std::size_t blobs = 0;
    std::size_t memberships = 0;
    std::size_t tags = 0;
    std::map<std::string, std::string> meta;  // what set_meta has left
  };

  // Gives the rows of all blobs, for a file that has to be made again; it must not block on anything that waits for the
  // catalog. Before load.
  using BlobSource = std::function<void(const std::function<void(std::span<const BlobRow>)>& take)>;
  void set_blob_source(BlobSource source) { blob_source_ = std::move(source); }
  // Told why the file cannot be written, and "" when it can be again; on the writer's thread. Before load.
  void set_on_trouble(std::function<void(const std::string& why)> on_trouble);

  // Reads everything, giving the blobs to `on_blob`, and starts the writer. A file that is no catalog, or a damaged
  // one, is moved to <file>.bad-<n> and a new one is made. One that cannot be opened or read for another reason stays,
  // and is read as far as it lets itself; it is opened again later. When a new one cannot be made it works without a
  // file, and tries again later. Blocks. `on_blob` may have been called with rows of a file that then turned out to be
  // bad; `on_discard` tells. `on_blobs` is called when all of them were given: there is time for something to be done
  // with them while the rest is read.
  Loaded load(const std::function<void(const BlobRow&)>& on_blob, const std::function<void()>& on_blobs,
              const std::function<void()>& on_discard);

  void put_blob(const BlobRow& row);
  // The same, for one of which no more is known than its file: the type and the time of a row that is there stay.
  void found_blob(const BlobRow& row);
  void remove_blob(const oci::Digest& digest);
  void touch_blob(const oci::Digest& digest, std::uint32_t last_used);
  // The walk after an incomplete load has ended.
  void set_complete();
  // Something small to remember, which load gives back.
  void set_meta(std::string key, std::string value);
  // What set_meta has left, in this run or an earlier one.
  [[nodiscard]] std::optional<std::string> meta(const std::string& key) const;
  // The file could not be read when it was loaded, and may hold rows that are not in memory: nothing is known of its
  // meta either.
  [[nodiscard]] bool is_unread() const noexcept { return unread_; }
  // Looks whether the file is still there, and has it made again when it is not. Blocks for a stat.
  void check_file();
  // Forgets the tags that are too old. Walks all there is, at most once an hour; from one thread.
  void forget_old_tags();
  // What the memory side takes, as it is counted against max_bytes.
  [[nodiscard]] std::size_t memory_bytes() const;

  // Blocks until every change made before the call was written once, or could not be. Errors: io, no_space, corrupt,
  // with SQLite's words; the changes are kept and tried again.
  Result<void> flush();
  // Flushes, then ends the writer. Idempotent.
  void close();

  [[nodiscard]] std::size_t pending() const;

 private:
  class Memory;
  class Writer;

  class Loading;

  Result<std::unique_ptr<CatalogFile>> open_or_make();
  Result<std::unique_ptr<CatalogFile>> open_file();
  Result<void> give_everything(const std::function<Result<void>(std::span<const Change>)>& take) const;

  const Params params_;
  runtime::Filesystem& filesystem_;
  const Clock& clock_;
  MediaTypes& media_types_;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Writer> writer_;
  BlobSource blob_source_;
  std::atomic<bool> complete_{false};
  bool unread_ = false;                             // set by load
  std::optional<Clock::Monotonic> tags_looked_at_;  // see forget_old_tags
  mutable std::mutex meta_mutex_;                   // guards meta_
  std::map<std::string, std::string> meta_;
};

}  // namespace sluice::store
