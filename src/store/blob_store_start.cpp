// Start and stop of the BlobStore.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <span>

#include <fmt/format.h>

#include "base/log.hpp"
#include "store/blob_store.hpp"
#include "store/blob_walker.hpp"
#include "store/evictor.hpp"
#include "store/scrubber.hpp"

namespace sluice::store {
namespace {

Catalog::Params catalog_params(const BlobStore::Params& params, const Layout& layout) {
  Catalog::Params out;
  out.file = layout.catalog();
  out.batch_delay = params.catalog_delay;
  out.max_tag_age = params.max_tag_age;
  return out;
}

// Removes the files below `directory`, at most `depth` directories down, but for parts; returns how many.
std::size_t remove_files(runtime::Filesystem& filesystem, const runtime::Path& directory, int depth) {
  const Result<std::vector<runtime::DirectoryEntry>> entries = filesystem.list(directory);
  if (!entries) {
    log::warn("store", entries.error().message);
    return 0;
  }
  std::size_t removed = 0;
  for (const runtime::DirectoryEntry& entry : *entries) {
    const runtime::Path path = directory / entry.name;
    if (entry.kind == runtime::FileStatus::Kind::directory) {
      if (depth > 0) removed += remove_files(filesystem, path, depth - 1);
      continue;
    }
    if (Layout::part_name(entry.name)) continue;
    const Result<void> done = filesystem.remove(path);
    if (done) {
      ++removed;
    } else {
      log::warn("store", done.error().message);
    }
  }
  return removed;
}

}  // namespace

BlobStore::Metrics::Metrics(metrics::Registry& registry)
    : bytes(registry.gauge("sluice_store_bytes", "Bytes of the blobs at rest")),
      entries(registry.gauge("sluice_store_entries", "Blobs at rest")),
      rebuilding(registry.gauge("sluice_store_rebuilding", "1 while the index is rebuilt from the files")),
      dropped(
          registry.counter("sluice_store_dropped_total", "Blobs at rest that were missing or damaged, and dropped")),
      open_errors(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                                   {{"operation", "open"}})),
      read_errors(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                                   {{"operation", "read"}})),
      write_errors(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                                    {{"operation", "write"}})),
      remove_errors(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                                     {{"operation", "remove"}})),
      walk_errors(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                                   {{"operation", "walk"}})) {}

BlobStore::BlobStore(Params params, runtime::Filesystem& filesystem, runtime::DiskPool& pool, const Clock& clock,
                     metrics::Registry& registry)
    : params_(std::move(params)),
      layout_(params_.root),
      filesystem_(filesystem),
      pool_(pool),
      clock_(clock),
      metrics_(registry),
      ledger_([this] { evictor_->wake(); },
              registry.gauge("sluice_store_reserved_bytes", "Bytes that running fills have taken or will take")),
      quarantine_(layout_, params_.quarantine_max_age, filesystem, ledger_, clock, registry),
      open_files_(params_.open_files),
      catalog_(catalog_params(params_, layout_), filesystem, clock, media_types_, registry),
      temporary_id_(static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count())),
      walker_(std::make_unique<Walker>(*this)),
      evictor_(std::make_unique<Evictor>(*this, registry)),
      scrubber_(std::make_unique<Scrubber>(*this, registry)) {
  catalog_.set_blob_source([this](const auto& take) { give_blobs(take); });
}

BlobStore::~BlobStore() { stop(); }

Result<void> BlobStore::start() {
  for (const runtime::Path& directory : {layout_.blobs(), layout_.incoming()}) {
    if (Result<void> made = filesystem_.create_directories(directory); !made) return made;
  }
  if (Result<void> locked = take_lock(); !locked) return locked;
  set_modes();
  clean_incoming();
  const Catalog::Loaded loaded = load_catalog();
  quarantine_.start();
  started_ = true;
  running_ = true;
  evictor_->start();
  walker_->start(rebuilding() ? std::chrono::milliseconds{0} : params_.walk_pause);
  scrubber_->start(loaded.meta);
  return {};
}

void BlobStore::close_for_writes() {
  running_ = false;
  scrubber_->stop();
  walker_->stop();
  evictor_->stop();
  ledger_.close();
  writable_.store(false, std::memory_order_release);
  // Whoever changes something has found it writable under one of these.
  for (std::mutex& commit : commit_locks_) const std::scoped_lock lock(commit);
  catalog_.close();
  lock_ = runtime::File();
}

void BlobStore::stop() {
  close_for_writes();
  open_files_.clear();
}

void BlobStore::set_on_evicted(std::function<void(const oci::Digest&)> on_evicted) {
  evictor_->set_on_evicted(std::move(on_evicted));
}

void BlobStore::set_give_up(GiveUp give_up) { evictor_->set_give_up(std::move(give_up)); }

void BlobStore::maintain() {
  if (started_) evictor_->round();
}

void BlobStore::wait_for_walk() {
  if (started_) walker_->wait();
}

// flock and not O_EXCL: the kernel gives it up when the process dies, however it dies.
Result<void> BlobStore::take_lock() {
  Result<runtime::File> file = filesystem_.create(layout_.lock());
  if (!file && file.error().code == Errc::exists) file = filesystem_.open_write(layout_.lock());
  if (!file) return file.error();
  if (::flock(file->fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error(errno, fmt::format("lock {}", layout_.lock().native()));
    std::array<char, 20> text{};
    const Result<std::size_t> size = filesystem_.read_at(*file, 0, std::as_writable_bytes(std::span(text)));
    long pid = 0;
    if (size) std::from_chars(text.data(), text.data() + *size, pid);
    return Error(Errc::exists, fmt::format("{} is in use by {}", layout_.root().native(),
                                           pid > 0 ? fmt::format("process {}", pid) : "another process"));
  }
  // For people and for the message above only; a full disk must not keep the cache from serving.
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (filesystem_.truncate(*file, 0)) (void)filesystem_.write_at(*file, 0, std::as_bytes(std::span(pid)));
  lock_ = std::move(*file);
  return {};
}

// What the umask, an older version or somebody else made of the modes. Blobs keep theirs: nobody comes to them but
// through the directories.
void BlobStore::set_modes() {
  const unsigned directory = runtime::PosixFilesystem::directory_mode(params_.file_mode);
  std::error_code none;
  // The root itself may be a link.
  const runtime::Path real = std::filesystem::canonical(layout_.root(), none);
  for (const runtime::Path& path : {real, layout_.blobs(), layout_.incoming(), layout_.quarantine()}) {
    set_mode(path, directory);
  }
  for (const char* suffix : {"", "-wal", "-shm"}) {
    set_mode(runtime::Path(layout_.catalog().native() + suffix), params_.file_mode);
  }
  set_mode(layout_.lock(), params_.file_mode);
  set_mode(layout_.boot(), params_.file_mode);
}

void BlobStore::set_mode(const runtime::Path& path, unsigned mode) {
  constexpr unsigned kPermissions = 0777;
  const Result<runtime::FileStatus> status = filesystem_.status(path);
  if (!status || status->kind == runtime::FileStatus::Kind::other || (status->mode & kPermissions) == mode) return;
  const Result<void> set = filesystem_.set_mode(path, (status->mode & ~kPermissions) | mode);
  if (!set) {
    log::warn("store", fmt::format("{} keeps the mode {:04o} where store.mode wants {:04o}: {}", path.native(),
                                   status->mode & kPermissions, mode, set.error().message));
  } else if (((status->mode & kPermissions) & ~mode) != 0) {
    log::info("store", fmt::format("changed the mode of {} from {:04o} to {:04o} (store.mode)", path.native(),
                                   status->mode & kPermissions, mode));
  }
}

// What lies there was being written by a process that is dead, as we hold the lock. Parts are for Parts to judge.
void BlobStore::clean_incoming() {
  const std::size_t removed = remove_files(filesystem_, layout_.incoming(), 2);
  if (removed != 0) log::info("store", fmt::format("removed {} unfinished files of an earlier run", removed));
}

Catalog::Loaded BlobStore::load_catalog() {
  // About what a blob and its membership take there: growing step by step costs more than a little too much room. Its
  // length says little before it was opened, and nothing where it is sparse or no catalog: some 20 MiB at most.
  constexpr std::uint64_t kRowBytes = 170;
  constexpr std::uint64_t kMostRows = 4'000'000;
  if (const Result<runtime::FileStatus> file = filesystem_.status(layout_.catalog())) {
    index_.reserve(static_cast<std::size_t>(std::min(file->size_bytes / kRowBytes, kMostRows)));
  }
  std::uint64_t bytes = 0;
  const auto on_blob = [&](const Catalog::BlobRow& row) {
    index_.set(row.digest, IndexEntry{row.size, row.last_used, row.media_type, origin_sets_.intern(row.origins)});
    bytes += on_disk(row.size);
  };
  const auto on_discard = [&] {
    index_.clear();
    bytes = 0;
  };
  const Catalog::Loaded loaded = catalog_.load(on_blob, [this] { index_.order_by_last_use(); }, on_discard);
  ledger_.found(bytes);
  if (!loaded.discarded.empty()) {
    log::error("store", fmt::format("cannot use the catalog, rebuilding it from the files: {}", loaded.discarded));
  } else {
    log::debug("store",
               fmt::format("{} blobs, {} memberships and {} tags in the catalog{}", loaded.blobs, loaded.memberships,
                           loaded.tags, loaded.complete ? "" : "; looking through the files for more"));
  }
  recall_condemned(loaded.meta);
  rebuilding_.store(!loaded.complete, std::memory_order_release);
  metrics_.rebuilding.set(loaded.complete ? 0 : 1);
  show_totals();
  return loaded;
}

}  // namespace sluice::store
