#include "store/evictor.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "runtime/guarded.hpp"

namespace sluice::store {
namespace {

// In ticks of the maintenance interval.
constexpr std::uint64_t kTicksForAge = 60;
constexpr std::uint64_t kTicksForDirectories = 30;

// What SQLite's journal may grow to before it is written back (wal_autocheckpoint, 1000 pages, and a batch). Counted
// from the start, so that it never comes as a surprise; of a small store no more than a part.
constexpr std::uint64_t kJournalBytes = 4608 * 1024;
constexpr std::uint64_t kJournalPart = 16;
// The directories below incoming/: up to 256, made as they are needed.
constexpr std::uint64_t kIncomingBytes = 256 * kBlockBytes;
constexpr std::uint64_t kIncomingPart = 64;

// A disk on which nothing can be removed is left alone until the next round.
constexpr int kFailuresInARound = 16;
constexpr std::size_t kIdleInATurn = 1024;

// A client whose pull broke asks again soon. A part that has waited for longer goes before any blob does, a younger one
// after all of them.
constexpr std::chrono::minutes kPartsAreFresh{10};

}  // namespace

BlobStore::Evictor::Evictor(BlobStore& store, metrics::Registry& registry)
    : store_(store),
      max_bytes_(registry.gauge("sluice_store_max_bytes", "The limit of the store, 0 without one")),
      evicted_for_size_(
          registry.counter("sluice_store_evicted_total", "Blobs that were evicted", {{"reason", "size"}})),
      evicted_for_free_(
          registry.counter("sluice_store_evicted_total", "Blobs that were evicted", {{"reason", "free"}})),
      evicted_for_age_(registry.counter("sluice_store_evicted_total", "Blobs that were evicted", {{"reason", "age"}})),
      evicted_bytes_(registry.counter("sluice_store_evicted_bytes_total", "Bytes of the blobs that were evicted")),
      eviction_age_(
          registry.histogram("sluice_store_eviction_age_seconds",
                             "How long ago the blobs were last used that were evicted to make room; low "
                             "values say that the store is too small",
                             {60, 600, 3600, 21600, 43200, 86400, 172800, 345600, 604800, 1209600, 2592000, 7776000})),
      filesystem_bytes_(registry.gauge("sluice_store_filesystem_size_bytes",
                                       "Size of the file system that the data directory is on")),
      available_bytes_(registry.gauge("sluice_store_filesystem_available_bytes",
                                      "Bytes that the file system of the data directory has left for new files")) {}

void BlobStore::Evictor::start() {
  measure_space();
  measure_catalog();
  thread_ = std::thread([this] { run(); });
}

void BlobStore::Evictor::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void BlobStore::Evictor::wake() {
  {
    const std::scoped_lock lock(mutex_);
    if (woken_) return;
    woken_ = true;
  }
  changed_.notify_all();
}

void BlobStore::Evictor::round() {
  std::unique_lock lock(mutex_);
  const std::uint64_t wanted = ++rounds_wanted_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return rounds_done_ >= wanted || stop_; });
}

bool BlobStore::Evictor::stopping() {
  const std::scoped_lock lock(mutex_);
  return stop_;
}

void BlobStore::Evictor::run() {
  // Not at start: on a cold disk it takes a while.
  runtime::guarded("store", [this] {
    measure_directories();
    measure_catalog();
  });
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const bool called = changed_.wait_for(lock, store_.params_.maintenance_interval,
                                          [this] { return stop_ || woken_ || rounds_wanted_ != rounds_done_; });
    if (stop_) break;
    const std::uint64_t asked = rounds_wanted_;
    const bool everything = asked != rounds_done_;
    woken_ = false;
    lock.unlock();
    // Woken for room: what was measured a moment ago does.
    runtime::guarded("store", [&] {
      if (everything || !called) {
        work(everything);
      } else {
        make_room();
      }
    });
    lock.lock();
    rounds_done_ = asked;
    changed_.notify_all();
  }
}

void BlobStore::Evictor::work(bool everything) {
  ++ticks_;
  store_.mend_root();
  if (everything || ticks_ % kTicksForDirectories == 0) measure_directories();
  measure_catalog();
  measure_space();
  if (everything || ticks_ % kTicksForAge == 0) {
    evict_idle();
    store_.quarantine_.expire();
  }
  make_room();
}

void BlobStore::Evictor::measure_space() {
  const Params& params = store_.params_;
  const Result<runtime::Space> space = store_.filesystem_.space(store_.layout_.root());
  if (!space) {
    if (!std::exchange(space_failed_, true)) log::warn("store", space.error().message);
    return;  // what was measured last holds on
  }
  space_failed_ = false;
  filesystem_bytes_.set(static_cast<std::int64_t>(space->capacity_bytes));
  available_bytes_.set(static_cast<std::int64_t>(space->available_bytes));
  const std::uint64_t limit = params.max_size.off() ? Ledger::kUnlimited : params.max_size.of(space->capacity_bytes);
  store_.ledger_.set_limit(limit);
  max_bytes_.set(params.max_size.off() ? 0 : static_cast<std::int64_t>(limit));
  if (!params.min_free.off()) {
    store_.ledger_.set_free(space->available_bytes, params.min_free.of(space->capacity_bytes));
  }
}

void BlobStore::Evictor::measure_catalog() {
  const auto bytes_of = [this](const char* suffix) -> std::uint64_t {
    runtime::Path path = store_.layout_.catalog();
    path += suffix;
    const Result<runtime::FileStatus> status = store_.filesystem_.status(path);
    return status ? on_disk(status->size_bytes) : 0;
  };
  const std::uint64_t journal = std::min(kJournalBytes, store_.ledger_.limit() / kJournalPart);
  catalog_bytes_ = bytes_of("") + std::max(bytes_of("-wal"), journal) + bytes_of("-shm") + kBlockBytes;  // and the lock
  store_.ledger_.set_overhead(catalog_bytes_ + directory_bytes_ +
                              store_.shelves_made_.load(std::memory_order_relaxed) * kBlockBytes);
}

std::uint64_t BlobStore::Evictor::bytes_of_directories(const runtime::Path& directory, int depth) {
  const Result<runtime::FileStatus> status = store_.filesystem_.status(directory);
  std::uint64_t sum = status ? on_disk(status->size_bytes) : 0;
  if (depth == 0 || !status) return sum;
  const Result<std::vector<runtime::DirectoryEntry>> entries = store_.filesystem_.list(directory);
  if (!entries) return sum;
  for (const runtime::DirectoryEntry& entry : *entries) {
    if (entry.kind == runtime::FileStatus::Kind::directory)
      sum += bytes_of_directories(directory / entry.name, depth - 1);
  }
  return sum;
}

void BlobStore::Evictor::measure_directories() {
  if (store_.params_.max_size.off()) return;
  // Before the look, so that a directory that is made meanwhile counts twice rather than not at all.
  store_.shelves_made_.store(0, std::memory_order_relaxed);
  const std::uint64_t incoming = std::min(kIncomingBytes, store_.ledger_.limit() / kIncomingPart);
  directory_bytes_ = kBlockBytes + bytes_of_directories(store_.layout_.blobs(), 2) +
                     std::max(incoming, bytes_of_directories(store_.layout_.incoming(), 1));
}

void BlobStore::Evictor::evict_idle() {
  const auto max_age = static_cast<std::uint64_t>(store_.params_.max_age.count());
  const std::uint32_t now = store_.now_seconds();
  if (max_age == 0 || max_age >= now) return;
  const auto before = static_cast<std::uint32_t>(now - max_age);
  for (;;) {
    const std::vector<BlobIndex::Victim> idle = store_.index_.idle_since(before, kIdleInATurn);
    std::size_t gone = 0;
    for (const BlobIndex::Victim& victim : idle) {
      if (stopping()) return;
      if (evict(victim.digest, Reason::age)) ++gone;
    }
    if (gone == 0 || idle.size() < kIdleInATurn) return;
  }
}

void BlobStore::Evictor::make_room() {
  for (;;) {
    const Ledger::Wanted wanted = store_.ledger_.wanted();
    if (wanted.bytes == 0) {
      stuck_ = false;
      return;
    }
    if (stopping()) return;
    const std::uint64_t freed = evict_some(wanted);
    if (freed >= wanted.bytes || stopping()) continue;
    store_.ledger_.give_up();
    if (!std::exchange(stuck_, true)) {
      log::warn("store",
                fmt::format("cannot free another {} {}: nothing is left to evict", format_bytes(wanted.bytes - freed),
                            wanted.for_free_space ? "for store.min_free" : "for store.max_size"));
    }
    return;
  }
}

std::uint64_t BlobStore::Evictor::give_up_idle(std::uint64_t bytes, std::chrono::seconds idle) {
  return give_up_ && bytes != 0 ? give_up_(bytes, idle) : 0;
}

// In the order in which things are of use (docs/eviction.md); returns how many bytes went.
std::uint64_t BlobStore::Evictor::evict_some(const Ledger::Wanted& wanted) {
  std::uint64_t freed = store_.quarantine_.make_room(wanted.bytes);
  const auto missing = [&] { return wanted.bytes - std::min(freed, wanted.bytes); };
  freed += give_up_idle(missing(), kPartsAreFresh);
  for (int failures = 0; missing() != 0 && failures < kFailuresInARound && !stopping();) {
    const std::optional<BlobIndex::Victim> victim = store_.index_.pick();
    if (!victim) break;
    if (evict(victim->digest, wanted.for_free_space ? Reason::free : Reason::size)) {
      freed += on_disk(victim->entry.size);
    } else {
      ++failures;
    }
  }
  freed += give_up_idle(missing(), std::chrono::seconds{0});
  return freed;
}

// Unlinks it; whoever has it open keeps it. False when it could not be, or was gone already.
bool BlobStore::Evictor::evict(const oci::Digest& digest, Reason reason) {
  std::uint64_t size = 0;
  std::uint32_t last_used = 0;
  runtime::File open;  // until the lock is free: to give back what a large file takes may take long
  {
    const std::scoped_lock lock(store_.commit_lock(digest));
    const std::optional<IndexEntry> entry = store_.index_.find(digest);
    if (!entry) return false;
    if (Result<runtime::File> file = store_.filesystem_.open_read(store_.layout_.blob(digest))) open = std::move(*file);
    const Result<void> removed = store_.filesystem_.remove(store_.layout_.blob(digest));
    if (!removed && removed.error().code != Errc::not_found) {
      store_.metrics_.remove_errors.add();
      log::error("store", removed.error().message);
      store_.index_.spare(digest);  // or the hand would come to it again and again
      return false;
    }
    size = entry->size;
    last_used = entry->last_used;
    store_.forget(digest);
  }
  evicted_bytes_.add(size);
  if (reason != Reason::age) {
    const std::uint32_t now = store_.now_seconds();
    eviction_age_.observe(now - std::min(now, last_used));
  }
  (reason == Reason::size ? evicted_for_size_ : reason == Reason::free ? evicted_for_free_ : evicted_for_age_).add();
  tell(digest);
  return true;
}

}  // namespace sluice::store
