#include "store/blob_store.hpp"

#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "store/blob_walker.hpp"
#include "store/evictor.hpp"

namespace sluice::store {
namespace {

// The sticky bit, which means nothing on a file, says of a file below blobs/ that it was fetched without a login. Below
// incoming/ it says something else (parts.cpp), so it is set when the file has its final name.
constexpr unsigned kPublicMode = 01000;

// Of a blob that is not what is on record, but may be what its name says.
constexpr Errc kDoubtful = Errc::corrupt;

}  // namespace

std::uint32_t BlobStore::now_seconds() const {
  return static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::seconds>(clock_.wall().time_since_epoch()).count());
}

std::mutex& BlobStore::commit_lock(const oci::Digest& digest) noexcept {
  const std::span<const std::byte> raw = digest.raw();
  const std::size_t first = std::to_integer<std::size_t>(raw[0]) << 8U | std::to_integer<std::size_t>(raw[1]);
  return commit_locks_[first % commit_locks_.size()];
}

void BlobStore::show_totals() {
  metrics_.bytes.set(static_cast<std::int64_t>(index_.bytes()));
  metrics_.entries.set(static_cast<std::int64_t>(index_.entries()));
}

std::optional<Stored> BlobStore::find(const oci::Digest& digest) const {
  const std::optional<IndexEntry> entry = index_.find(digest);
  if (!entry) return std::nullopt;
  return stored(*entry);
}

std::optional<Stored> BlobStore::find(const oci::Digest& digest, std::string_view upstream) const {
  std::optional<Stored> found = find(digest);
  if (found && !permits(*found, upstream)) found.reset();
  return found;
}

Stored BlobStore::stored(const IndexEntry& entry) const {
  return {entry.size, media_types_.text(entry.media_type), entry.last_used, entry.origins};
}

Catalog::BlobRow BlobStore::row(const oci::Digest& digest, const IndexEntry& entry) const {
  return {digest, entry.size, entry.media_type, entry.last_used, std::string(origin_sets_.text(entry.origins))};
}

std::shared_ptr<const OpenBlob> BlobStore::peek_open(const oci::Digest& digest) {
  std::shared_ptr<const OpenBlob> found = open_files_.find(digest);
  if (!found) return nullptr;
  // One that has changed its length since would break in the middle of an answer, time and again. Opened anew, it is
  // dropped.
  if (!is_whole(*found)) {
    open_files_.erase(digest);
    return nullptr;
  }
  touch(digest);
  return found;
}

bool BlobStore::is_whole(const OpenBlob& blob) const {
  const Result<std::uint64_t> length = filesystem_.size(blob.file);
  return length && *length == blob.size;
}

void BlobStore::touch(const oci::Digest& digest) {
  const std::uint32_t now = now_seconds();
  if (index_.touch(digest, now, static_cast<std::uint32_t>(params_.touch_granularity.count()))) {
    catalog_.touch_blob(digest, now);
  }
}

// --- Tasks. What they do is one piece of work on the pool, so that a task that is cancelled leaves nothing half done.

runtime::Task<Result<Stored>> BlobStore::stat(oci::Digest digest) {
  // Asked before the index: when the walk ends in between, the index has what it found.
  const bool unsure = incomplete();
  if (const std::optional<Stored> found = find(digest)) co_return *found;
  if (!unsure) co_return Error(Errc::not_found, fmt::format("{} is not stored", digest.to_string()));
  const auto work = [this, digest] { return stat_blocking(digest); };
  co_return co_await runtime::offload(pool_, work, runtime::Lane::fast);
}

runtime::Task<Result<std::shared_ptr<const OpenBlob>>> BlobStore::open(oci::Digest digest) {
  if (std::shared_ptr<const OpenBlob> found = peek_open(digest)) co_return found;
  const bool unsure = incomplete();
  if (!unsure && !index_.find(digest)) {
    co_return Error(Errc::not_found, fmt::format("{} is not stored", digest.to_string()));
  }
  const auto work = [this, digest] { return open_blocking(digest); };
  Result<std::shared_ptr<const OpenBlob>> opened = co_await runtime::offload(pool_, work, runtime::Lane::fast);
  if (opened || opened.error().code != kDoubtful) co_return opened;
  const Result<void> settled = co_await settle(digest);
  if (!settled) co_return settled.error();
  opened = co_await runtime::offload(pool_, work, runtime::Lane::fast);
  if (opened || opened.error().code != kDoubtful) co_return opened;
  co_return Error(Errc::overloaded, opened.error().message);  // it changes while it is looked at
}

runtime::Task<Result<void>> BlobStore::reserve(Reservation& room, std::uint64_t size_bytes) {
  co_return co_await ledger_.grow(room, size_bytes);
}

runtime::Task<Result<void>> BlobStore::adopt(runtime::Path from, oci::Digest digest, std::uint64_t size,
                                             std::string media_type, Reservation& room, Origin origin) {
  if (Result<void> reserved = co_await reserve(room, size); !reserved) co_return reserved;
  // A task that is cancelled gives its frame up when the work is done, so `room` lives as long.
  co_return co_await runtime::offload(
      pool_, [this, from = std::move(from), digest, size, media_type = std::move(media_type), &room,
              origin = std::move(origin)] { return adopt_blocking(from, digest, size, media_type, room, origin); });
}

runtime::Task<Result<void>> BlobStore::adopt(runtime::Path from, oci::Digest digest, std::uint64_t size,
                                             std::string media_type) {
  Reservation room;
  co_return co_await adopt(std::move(from), digest, size, std::move(media_type), room);
}

runtime::Task<Result<void>> BlobStore::put(oci::Digest digest, std::string bytes, std::string media_type,
                                           Origin origin) {
  Reservation room;
  if (Result<void> reserved = co_await reserve(room, bytes.size()); !reserved) co_return reserved;
  co_return co_await runtime::offload(
      pool_, [this, digest, bytes = std::move(bytes), media_type = std::move(media_type), &room,
              origin = std::move(origin)] { return put_blocking(digest, bytes, media_type, room, origin); });
}

runtime::Task<void> BlobStore::add_origin(oci::Digest digest, Origin origin) {
  const std::optional<IndexEntry> entry = index_.find(digest);
  if (!entry || origin_sets_.with(entry->origins, origin) == entry->origins) co_return;
  co_await runtime::offload(pool_, [this, digest, origin = std::move(origin)] { add_origin_blocking(digest, origin); });
}

runtime::Task<Result<std::string>> BlobStore::read_small(oci::Digest digest, std::size_t limit) {
  const bool unsure = incomplete();
  if (!unsure && !index_.find(digest)) {
    co_return Error(Errc::not_found, fmt::format("{} is not stored", digest.to_string()));
  }
  const auto work = [this, digest, limit] { return read_small_blocking(digest, limit); };
  Result<std::string> read = co_await runtime::offload(pool_, work, runtime::Lane::fast);
  if (read || read.error().code != kDoubtful) co_return read;
  const Result<void> settled = co_await settle(digest);
  if (!settled) co_return settled.error();
  read = co_await runtime::offload(pool_, work, runtime::Lane::fast);
  if (read || read.error().code != kDoubtful) co_return read;
  co_return Error(Errc::overloaded, read.error().message);
}

runtime::Task<Result<void>> BlobStore::remove(oci::Digest digest) {
  co_return co_await runtime::offload(pool_, [this, digest] { return remove_blocking(digest); });
}

// --- Reading.

// Looks for the file of a digest that the index lacks, and enters it. Under the commit lock.
Result<std::optional<IndexEntry>> BlobStore::probe(const oci::Digest& digest) {
  if (condemned(digest)) return std::optional<IndexEntry>();
  const Result<runtime::FileStatus> status = filesystem_.status(layout_.blob(digest));
  if (!status) {
    if (status.error().code == Errc::not_found) return std::optional<IndexEntry>();
    metrics_.walk_errors.add();
    return status.error();
  }
  if (status->kind != runtime::FileStatus::Kind::regular) return std::optional<IndexEntry>();
  // The last use was lost with the row. It counts as now: by the file's own times all that a lost catalog knew would be
  // older than store.max_age, and go at once.
  const bool is_public = (status->mode & kPublicMode) != 0;
  const IndexEntry entry{status->size_bytes, now_seconds(), MediaTypes::kOctetStream,
                         is_public ? OriginSets::kPublic : OriginSets::kUnknown};
  index_.set(digest, entry);
  ledger_.found(entry.size);
  catalog_.found_blob(row(digest, entry));
  show_totals();
  return std::optional(entry);
}

Result<Stored> BlobStore::stat_blocking(const oci::Digest& digest) {
  const std::scoped_lock lock(commit_lock(digest));
  if (const std::optional<Stored> found = find(digest)) return *found;
  const Result<std::optional<IndexEntry>> probed = probe(digest);
  if (!probed) return probed.error();
  if (!*probed) return Error(Errc::not_found, fmt::format("{} is not stored", digest.to_string()));
  return stored(**probed);
}

// Opens the file and compares what can be seen of it with the index. Errors: also kDoubtful: only its digest tells
// whether it is the blob. Under the commit lock.
Result<OpenBlob> BlobStore::open_checked(const oci::Digest& digest) {
  std::optional<IndexEntry> entry = index_.find(digest);
  if (!entry) {
    const Result<std::optional<IndexEntry>> probed = probe(digest);
    if (!probed) return probed.error();
    entry = *probed;
  }
  if (!entry) return Error(Errc::not_found, fmt::format("{} is not stored", digest.to_string()));
  Result<runtime::File> file = filesystem_.open_read(layout_.blob(digest));
  if (!file) {
    if (file.error().code == Errc::not_found) return drop(digest, Error(Errc::not_found, "its file is missing"));
    metrics_.open_errors.add();
    return drop(digest, file.error());
  }
  const Result<runtime::FileStatus> status = filesystem_.status(*file);
  if (!status) {
    metrics_.open_errors.add();
    return drop(digest, status.error());
  }
  if (status->size_bytes != entry->size) {
    return Error(kDoubtful, fmt::format("the file of {} has {} bytes, and {} are on record", digest.to_string(),
                                        status->size_bytes, entry->size));
  }
  if (status->links > 1 && !vouched(digest, *status)) {
    return Error(kDoubtful, fmt::format("the file of {} has {} names", digest.to_string(), status->links));
  }
  return OpenBlob{std::move(*file), entry->size, media_types_.text(entry->media_type)};
}

Result<std::shared_ptr<const OpenBlob>> BlobStore::open_blocking(const oci::Digest& digest) {
  std::shared_ptr<const OpenBlob> blob;
  {
    // Into the cache under the lock too, or a blob that is removed meanwhile would stay open there.
    const std::scoped_lock lock(commit_lock(digest));
    Result<OpenBlob> opened = open_checked(digest);
    if (!opened) return opened.error();
    blob = std::make_shared<const OpenBlob>(std::move(*opened));
    open_files_.insert(digest, blob);
  }
  touch(digest);
  return blob;
}

Result<std::string> BlobStore::read_small_blocking(const oci::Digest& digest, std::size_t limit) {
  const auto opened = [&] {
    const std::scoped_lock lock(commit_lock(digest));
    return open_checked(digest);
  }();
  if (!opened) return opened.error();
  if (opened->size > limit) {
    return Error(Errc::size_mismatch,
                 fmt::format("{} has {} bytes, more than {}", digest.to_string(), opened->size, limit));
  }
  std::string bytes(opened->size, '\0');
  const Result<std::size_t> size =
      filesystem_.read_at(opened->file, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  if (!size) {
    metrics_.read_errors.add();
    const std::scoped_lock lock(commit_lock(digest));
    return drop(digest, size.error(), &opened->file);
  }
  if (*size != bytes.size() || oci::digest_of(digest.algorithm(), bytes) != digest) {
    const std::scoped_lock lock(commit_lock(digest));
    return drop(digest, Error(Errc::corrupt, "its content has another digest"), &opened->file);
  }
  touch(digest);
  return bytes;
}

// --- Writing.

Result<void> BlobStore::adopt_blocking(const runtime::Path& from, const oci::Digest& digest, std::uint64_t size,
                                       const std::string& media_type, Reservation& room, const Origin& origin) {
  {
    const Result<runtime::File> file = filesystem_.open_read(from);
    if (!file) return write_failed(file.error());
    const Result<std::uint64_t> found = filesystem_.size(*file);
    if (!found) return write_failed(found.error());
    if (*found != size) {
      return write_failed(
          Error(Errc::size_mismatch, fmt::format("{} has {} bytes instead of {}", from.native(), *found, size)));
    }
    // Before it gets its name, and not under the lock: this may take seconds.
    if (params_.durability != Durability::none) {
      if (const Result<void> synced = filesystem_.sync(*file); !synced) return write_failed(synced.error());
    }
  }
  {
    const std::scoped_lock lock(commit_lock(digest));
    if (!writable()) return Error(Errc::shutting_down, "the store is closed");
    mark_public(from, false);
    if (const Result<void> named = publish(from, digest); !named) return write_failed(named.error());
    if (origin.is_public()) mark_public(layout_.blob(digest), true);
    open_files_.erase(digest);
    pardon(digest);
    enter(digest, size, media_type, room, origin);
  }
  if (params_.durability == Durability::full) {
    // It is stored, and served; only a power failure soon after may still take it away.
    if (const Result<void> synced = filesystem_.sync_directory(layout_.shelf(digest)); !synced) {
      metrics_.write_errors.add();
      log::error("store", synced.error().message);
    }
  }
  return {};
}

// Gives the file its final name. Under the commit lock.
Result<void> BlobStore::publish(const runtime::Path& from, const oci::Digest& digest) {
  const runtime::Path to = layout_.blob(digest);
  Result<void> renamed = filesystem_.rename(from, to);
  if (renamed || renamed.error().code != Errc::not_found) return renamed;
  // The first blob of its shelf.
  if (Result<void> made = filesystem_.create_directories(layout_.shelf(digest)); !made) return made;
  shelves_made_.fetch_add(1, std::memory_order_relaxed);
  ledger_.add_overhead(kBlockBytes);
  if (params_.durability == Durability::full) {
    for (const runtime::Path& parent : {layout_.blobs(digest.algorithm()), layout_.blobs()}) {
      if (Result<void> synced = filesystem_.sync_directory(parent); !synced) return synced;
    }
  }
  return filesystem_.rename(from, to);
}

Result<void> BlobStore::put_blocking(const oci::Digest& digest, const std::string& bytes, const std::string& media_type,
                                     Reservation& room, const Origin& origin) {
  if (!writable()) return Error(Errc::shutting_down, "the store is closed");
  const runtime::Path temporary =
      layout_.incoming() /
      fmt::format("put-{:x}-{}", temporary_id_, next_temporary_.fetch_add(1, std::memory_order_relaxed));
  Result<void> done = write_new(temporary, bytes);
  if (done) {
    done = adopt_blocking(temporary, digest, bytes.size(), media_type, room, origin);
  } else {
    metrics_.write_errors.add();
  }
  if (!done) (void)filesystem_.remove(temporary);
  return done;
}

Result<void> BlobStore::write_new(const runtime::Path& path, const std::string& bytes) {
  Result<runtime::File> file = filesystem_.create(path);
  if (!file) return file.error();
  if (Result<void> written = filesystem_.write_at(*file, 0, std::as_bytes(std::span(bytes))); !written) {
    return written;
  }
  return filesystem_.close(std::move(*file));
}

Error BlobStore::write_failed(Error error) {
  metrics_.write_errors.add();
  return error;
}

void BlobStore::enter(const oci::Digest& digest, std::uint64_t size, std::string_view media_type, Reservation& room,
                      const Origin& origin) {
  IndexEntry entry{size, now_seconds(), media_types_.intern(media_type)};
  const std::optional<IndexEntry> known = index_.find(digest);
  // Who does not know the type does not take it from one that does.
  if (known && media_type.empty()) entry.media_type = known->media_type;
  entry.origins = origin_sets_.with(known ? known->origins : OriginSets::kUnknown, origin);
  const std::optional<IndexEntry> replaced = index_.set(digest, entry);
  ledger_.commit(std::move(room), size);
  if (replaced) ledger_.gone(replaced->size);
  catalog_.put_blob(row(digest, entry));
  show_totals();
}

void BlobStore::add_origin_blocking(const oci::Digest& digest, const Origin& origin) {
  const std::scoped_lock lock(commit_lock(digest));
  if (!writable()) return;  // the files are another process's by now
  std::optional<IndexEntry> entry = index_.find(digest);
  if (!entry) return;
  entry->origins = origin_sets_.with(entry->origins, origin);
  index_.set(digest, *entry);
  catalog_.put_blob(row(digest, *entry));
  if (origin.is_public()) mark_public(layout_.blob(digest), true);
}

// So that what anybody may have is known of a file also where the catalog was lost.
void BlobStore::mark_public(const runtime::Path& path, bool is_public) {
  const Result<runtime::FileStatus> status = filesystem_.status(path);
  if (!status || ((status->mode & kPublicMode) != 0) == is_public) return;
  const Result<void> set = filesystem_.set_mode(path, status->mode ^ kPublicMode);
  if (!set) log::warn("store", set.error().message);
}

// --- Removing.

Result<void> BlobStore::remove_blocking(const oci::Digest& digest) {
  runtime::File open;
  {
    const std::scoped_lock lock(commit_lock(digest));
    if (!writable()) return Error(Errc::shutting_down, "the store is closed");
    // Held open until the lock is free: what takes long is to give back what a large file takes, not its name.
    if (Result<runtime::File> file = filesystem_.open_read(layout_.blob(digest))) open = std::move(*file);
    // The file first: when it cannot be removed, the blob is still there and still counted.
    const Result<void> removed = filesystem_.remove(layout_.blob(digest));
    if (!removed && removed.error().code != Errc::not_found) {
      metrics_.remove_errors.add();
      return removed.error();
    }
    pardon(digest);
    const bool known = forget(digest);
    if (!removed && !known) return Error(Errc::not_found, fmt::format("{} is not stored", digest.to_string()));
  }
  evictor_->tell(digest);
  if (params_.durability == Durability::none) return {};
  // Who asked for it may rely on it, also when the power fails the next moment.
  const Result<void> synced = filesystem_.sync_directory(layout_.shelf(digest));
  if (synced || synced.error().code == Errc::not_found) return {};
  metrics_.remove_errors.add();
  return synced.error();
}

// Under the commit lock; whether it was known.
bool BlobStore::forget(const oci::Digest& digest) {
  open_files_.erase(digest);
  const std::optional<IndexEntry> known = index_.erase(digest);
  if (known) {
    ledger_.gone(known->size);
    catalog_.remove_blob(digest);
  }
  show_totals();
  return known.has_value();
}

}  // namespace sluice::store
