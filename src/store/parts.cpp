#include "store/parts.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"

namespace sluice::store {
namespace {

constexpr const char* kComponent = "store";
// A name that is taken belongs to a running download of the same blob, of which there is one for each upstream.
constexpr int kMaxNames = 64;
// The sticky bit, which means nothing on a file, says of a part that all of it was forced to the disk. A file that
// grows never has it: it is taken off before the first byte is written.
constexpr unsigned kSyncedMode = 01000;

// Whether somebody else has the lock on it; where nobody has, it is had now.
bool is_locked(const runtime::File& file) {
  const Result<bool> locked = runtime::try_lock(file);
  // A file system without locks cannot be shared either: the root's own lock has been had.
  return locked && !*locked;
}

}  // namespace

std::string Parts::current_boot() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

Parts::Parts(Params params, runtime::Filesystem& filesystem, const Clock& clock, metrics::Registry& registry)
    : params_(std::move(params)),
      layout_(params_.root),
      filesystem_(filesystem),
      clock_(clock),
      bytes_metric_(registry.gauge("sluice_parts_bytes", "Bytes of interrupted downloads that are kept for resuming")),
      expired_metric_(
          registry.counter("sluice_parts_expired_total", "Parts of blobs that nobody has asked for in time")),
      given_up_metric_(registry.counter("sluice_parts_given_up_total", "Parts that were removed to make room")),
      distrusted_metric_(
          registry.counter("sluice_parts_distrusted_total",
                           "Parts that were removed because a power failure may have damaged them, or because their "
                           "name does not tell where they came from")) {}

bool Parts::expired(const Part& part) const { return clock_.wall() - part.since >= params_.max_age; }

void Parts::add_bytes(std::int64_t bytes) {
  bytes_.fetch_add(static_cast<std::uint64_t>(bytes), std::memory_order_relaxed);
  bytes_metric_.add(bytes);
}

// Returns the one that is to be removed: the smaller of two.
std::optional<Parts::Part> Parts::insert(const Key& key, Part part) {
  if (params_.ledger != nullptr) params_.ledger->settle(part.room, part.size_bytes, Ledger::Kind::idle);
  const std::scoped_lock lock(mutex_);
  Part& kept = parts_[key];
  if (kept.size_bytes >= part.size_bytes) return part;
  add_bytes(static_cast<std::int64_t>(part.size_bytes) - static_cast<std::int64_t>(kept.size_bytes));
  std::swap(kept, part);
  if (part.size_bytes == 0) return std::nullopt;
  return part;
}

std::optional<Parts::Part> Parts::take(const Key& key) {
  const std::scoped_lock lock(mutex_);
  const auto at = parts_.find(key);
  if (at == parts_.end()) return std::nullopt;
  Part part = std::move(at->second);
  parts_.erase(at);
  add_bytes(-static_cast<std::int64_t>(part.size_bytes));
  return part;
}

// With its lock, so that nobody begins to write it meanwhile. Who writes it already keeps it: another process, to which
// this one is handing over, or a download of ours that is just giving it up.
bool Parts::remove(const runtime::Path& path) {
  const Result<runtime::File> file = filesystem_.open_write(path);
  if (file && is_locked(*file)) {
    if (const std::optional<Layout::PartName> name = Layout::part_name(path.filename().native())) {
      const std::scoped_lock lock(mutex_);
      elsewhere_.insert_or_assign(Key{name->digest, name->tag}, path);
    }
    return false;
  }
  const Result<void> removed = filesystem_.remove(path);
  if (!removed && removed.error().code != Errc::not_found) log::warn(kComponent, removed.error().message);
  return true;
}

void Parts::start(const Stored& stored) {
  const Result<std::vector<runtime::DirectoryEntry>> entries = filesystem_.list(layout_.incoming());
  if (!entries) {
    log::warn(kComponent, entries.error().message);
    return;
  }
  const bool same = same_boot();
  for (const runtime::DirectoryEntry& entry : *entries) discover(entry, same, stored);
  if (const std::uint64_t kept = bytes(); kept != 0) {
    log::info(kComponent,
              fmt::format("kept {} of interrupted downloads of an earlier run for resuming", format_bytes(kept)));
  }
}

// Whether the machine has run on since incoming/ was written to last: then the kernel has had all that was written, and
// has not lost it. The note of it needs no sync: one that is lost or old tells to be careful.
bool Parts::same_boot() {
  const runtime::Path path = layout_.boot();
  std::array<char, 64> text{};
  std::size_t size = 0;
  if (const Result<runtime::File> file = filesystem_.open_read(path)) {
    const Result<std::size_t> read = filesystem_.read_at(*file, 0, std::as_writable_bytes(std::span(text)));
    if (read) size = *read;
  }
  if (!params_.boot_id.empty() && params_.boot_id == std::string_view(text.data(), size)) return true;
  Result<runtime::File> file = filesystem_.create(path);
  if (!file && file.error().code == Errc::exists) file = filesystem_.open_write(path);
  Result<void> written = file ? filesystem_.truncate(*file, 0) : file.error();
  if (written) written = filesystem_.write_at(*file, 0, std::as_bytes(std::span(params_.boot_id)));
  if (!written) log::warn(kComponent, written.error().message);
  return false;
}

void Parts::discover(const runtime::DirectoryEntry& entry, bool same_boot, const Stored& stored) {
  const std::optional<Layout::PartName> name = Layout::part_name(entry.name);
  if (!name) return;
  Part part{layout_.incoming() / entry.name, 0, {}, {}};
  const Claim claim = look(part.path);
  if (claim == Claim::elsewhere) {
    const std::scoped_lock lock(mutex_);
    elsewhere_.insert_or_assign(Key{name->digest, name->tag}, part.path);
  }
  if (claim != Claim::free) return;
  const Result<runtime::FileStatus> status = filesystem_.status(part.path);
  if (!status) {
    log::warn(kComponent, status.error().message);
    return;
  }
  part.size_bytes = status->size_bytes;
  part.since = status->modified;
  const bool trusted = same_boot || (status->mode & kSyncedMode) != 0;
  if (part.size_bytes == 0 || part.size_bytes < params_.min_bytes || expired(part) || stored(name->digest)) {
    remove(part.path);
  } else if (name->tag.empty()) {
    // Whose bytes these are is not known, so nobody can be given them.
    log::info(kComponent,
              fmt::format("removed the interrupted download {}: its name does not say which upstream it came from",
                          part.path.native()));
    distrusted_metric_.add();
    remove(part.path);
  } else if (!trusted) {
    log::info(kComponent,
              fmt::format("the machine restarted during the download of {}: removed its {}, which may be damaged",
                          name->digest.to_string(), format_bytes(part.size_bytes)));
    distrusted_metric_.add();
    remove(part.path);
  } else if (const std::optional<Part> loser = insert({name->digest, name->tag}, std::move(part))) {
    remove(loser->path);
  }
}

Parts::Claim Parts::look(const runtime::Path& path) {
  const Result<runtime::File> file = filesystem_.open_write(path);
  if (!file) {
    if (file.error().code == Errc::unsupported) {
      log::warn(kComponent, fmt::format("ignored in place of a part: {}", file.error().message));
      return Claim::refused;
    }
    return file.error().code == Errc::not_found ? Claim::refused : Claim::free;
  }
  return is_locked(*file) ? Claim::elsewhere : Claim::free;
}

// The part that an ending process was still writing when this one started, once it has let go of it.
std::optional<Parts::Part> Parts::take_over(const Key& key) {
  runtime::Path path;
  {
    const std::scoped_lock lock(mutex_);
    const auto at = elsewhere_.find(key);
    if (at == elsewhere_.end()) return std::nullopt;
    path = at->second;
  }
  const Claim claim = look(path);
  if (claim == Claim::elsewhere) return std::nullopt;
  {
    const std::scoped_lock lock(mutex_);
    if (elsewhere_.erase(key) == 0) return std::nullopt;
  }
  const Result<runtime::FileStatus> status = filesystem_.status(path);
  if (claim == Claim::refused || !status || status->size_bytes == 0) return std::nullopt;
  return Part{path, status->size_bytes, status->modified, {}};
}

// So that they age, and count, also where nobody asks for them.
void Parts::take_over_all() {
  std::vector<Key> keys;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [key, path] : elsewhere_) keys.push_back(key);
  }
  for (const Key& key : keys) {
    std::optional<Part> part = take_over(key);
    if (!part) continue;
    if (const std::optional<Part> loser = insert(key, *std::move(part))) remove(loser->path);
  }
}

Result<Parts::Opened> Parts::open(const oci::Digest& digest, const Origin& origin) {
  const Key key{digest, Layout::part_tag(origin)};
  std::optional<Part> part = take(key);
  if (!part) part = take_over(key);
  if (part && expired(*part)) {
    expired_metric_.add();
    remove(part->path);
    part.reset();
  }
  if (part && look(part->path) == Claim::elsewhere) {
    // Whoever has kept it is about to let go of it.
    if (const std::optional<Part> loser = insert(key, *std::exchange(part, std::nullopt))) remove(loser->path);
  }
  if (part) {
    const runtime::Path path = part->path;
    Result<Opened> opened = reopen(*std::move(part));
    if (opened) return opened;
    // It is no use to anybody: fetched whole, into a file of its own.
    log::warn(kComponent, fmt::format("cannot resume from an interrupted download: {}", opened.error().message));
    if (opened.error().code != Errc::exists && opened.error().code != Errc::unsupported) remove(path);
  }
  return create(key);
}

Result<Parts::Opened> Parts::reopen(Part part) {
  Result<runtime::File> file = filesystem_.open_write(part.path);
  if (!file) return file.error();
  if (Result<void> claimed = claim(*file, part.path); !claimed) return claimed.error();
  const Result<std::uint64_t> size = filesystem_.size(*file);
  if (!size) return size.error();
  if (*size != part.size_bytes) {
    return Error(Errc::corrupt,
                 fmt::format("{} has {} bytes instead of {}", part.path.native(), *size, part.size_bytes));
  }
  const Result<runtime::FileStatus> status = filesystem_.status(part.path);
  if (!status) return status.error();
  if ((status->mode & kSyncedMode) != 0) {
    if (Result<void> set = filesystem_.set_mode(part.path, status->mode & ~kSyncedMode); !set) return set.error();
  }
  if (params_.ledger != nullptr) params_.ledger->settle(part.room, part.size_bytes, Ledger::Kind::running);
  return Opened{*std::move(file), std::move(part.path), part.size_bytes, std::move(part.room)};
}

Result<Parts::Opened> Parts::create(const Key& key) {
  runtime::Path path = layout_.part(key.digest, key.tag);
  Result<runtime::File> file = filesystem_.create(path);
  if (!file && file.error().code == Errc::not_found) {
    // Somebody has tidied up.
    if (Result<void> made = filesystem_.create_directories(layout_.incoming()); !made) return made.error();
    file = filesystem_.create(path);
  }
  for (int i = 1; !file && file.error().code == Errc::exists && i < kMaxNames; ++i) {
    path = layout_.part(key.digest, key.tag, next_number_.fetch_add(1, std::memory_order_relaxed));
    file = filesystem_.create(path);
  }
  if (!file) return file.error();
  if (Result<void> claimed = claim(*file, path); !claimed) return claimed.error();
  return Opened{*std::move(file), std::move(path)};
}

// Says to other processes that the file is being written.
Result<void> Parts::claim(const runtime::File& file, const runtime::Path& path) {
  if (!is_locked(file)) return {};
  return Error(Errc::exists, fmt::format("another process writes {}", path.native()));
}

// Cuts off what a write that failed half way has left behind the good bytes, and forces these to the disk.
bool Parts::finish(const runtime::Path& path, std::uint64_t size_bytes) {
  const Result<runtime::File> file = filesystem_.open_write(path);
  if (!file) return false;
  const Result<std::uint64_t> length = filesystem_.size(*file);
  if (!length || *length < size_bytes) return false;
  // Also where there is nothing to cut off: it makes the file one that was changed now, which is what its age is told
  // by.
  if (!filesystem_.truncate(*file, size_bytes)) return false;
  const Result<runtime::FileStatus> status = filesystem_.status(path);
  if (!status) return true;
  // Where that fails the part is kept for as long as the machine runs.
  const bool synced = params_.sync && filesystem_.sync(*file);
  if (((status->mode & kSyncedMode) != 0) == synced) return true;
  if (const Result<void> set = filesystem_.set_mode(path, status->mode ^ kSyncedMode); !set) {
    log::warn(kComponent, set.error().message);
  }
  return true;
}

bool Parts::keep(const runtime::Path& path, const oci::Digest& digest, std::uint64_t size_bytes, Reservation& room) {
  if (size_bytes == 0 || size_bytes < params_.min_bytes || params_.max_age <= std::chrono::seconds::zero())
    return false;
  const std::optional<Layout::PartName> name = Layout::part_name(path.filename().native());
  if (!name || !finish(path, size_bytes)) return false;
  std::optional<Part> loser = insert({digest, name->tag}, {path, size_bytes, clock_.wall(), std::move(room)});
  if (!loser) return true;
  if (loser->path == path) {
    room = std::move(loser->room);
    return false;
  }
  remove(loser->path);
  return true;
}

std::optional<Parts::Part> Parts::take_oldest(std::chrono::seconds idle) {
  const std::scoped_lock lock(mutex_);
  const auto at = std::min_element(parts_.begin(), parts_.end(),
                                   [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
  if (at == parts_.end() || clock_.wall() - at->second.since < idle) return std::nullopt;
  Part part = std::move(at->second);
  parts_.erase(at);
  add_bytes(-static_cast<std::int64_t>(part.size_bytes));
  return part;
}

std::size_t Parts::expire() {
  take_over_all();
  std::size_t count = 0;
  while (const std::optional<Part> part = take_oldest(params_.max_age)) {
    if (remove(part->path)) ++count;
  }
  expired_metric_.add(count);
  return count;
}

std::uint64_t Parts::give_up(std::uint64_t bytes, std::chrono::seconds idle) {
  std::uint64_t freed = 0;
  while (freed < bytes) {
    const std::optional<Part> part = take_oldest(idle);
    if (!part) break;
    if (!remove(part->path)) continue;
    freed += on_disk(part->size_bytes);
    given_up_metric_.add();
  }
  return freed;
}

std::uint64_t Parts::drop(const oci::Digest& digest) {
  std::vector<Key> keys;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = parts_.lower_bound({digest, {}}); at != parts_.end() && at->first.digest == digest; ++at) {
      keys.push_back(at->first);
    }
  }
  std::uint64_t bytes = 0;
  for (const Key& key : keys) {
    const std::optional<Part> part = take(key);
    if (!part) continue;
    if (remove(part->path)) bytes += part->size_bytes;
  }
  // As the store does for a blob: who asked for it may rely on it.
  if (bytes != 0 && params_.sync) {
    const Result<void> synced = filesystem_.sync_directory(layout_.incoming());
    if (!synced) log::warn(kComponent, synced.error().message);
  }
  return bytes;
}

std::optional<std::uint64_t> Parts::find(const oci::Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  std::optional<std::uint64_t> largest;
  for (auto at = parts_.lower_bound({digest, {}}); at != parts_.end() && at->first.digest == digest; ++at) {
    largest = std::max(largest.value_or(0), at->second.size_bytes);
  }
  return largest;
}

}  // namespace sluice::store
