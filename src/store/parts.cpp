#include "store/parts.hpp"

#include <cstring>
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

}  // namespace

// Any of its bytes are as good as others.
std::size_t Parts::Hash::operator()(const oci::Digest& digest) const noexcept {
  std::size_t out = 0;
  std::memcpy(&out, digest.raw().data(), sizeof out);
  return out;
}

Parts::Parts(Params params, runtime::Filesystem& filesystem, const Clock& clock, metrics::Registry& registry)
    : params_(std::move(params)),
      layout_(params_.root),
      filesystem_(filesystem),
      clock_(clock),
      bytes_metric_(registry.gauge("sluice_parts_bytes", "Bytes of broken downloads that wait to be gone on with")),
      expired_metric_(
          registry.counter("sluice_parts_expired_total", "Parts of blobs that nobody has asked for in time")) {}

bool Parts::expired(const Part& part) const { return clock_.wall() - part.since >= params_.max_age; }

void Parts::add_bytes(std::int64_t bytes) {
  bytes_.fetch_add(static_cast<std::uint64_t>(bytes), std::memory_order_relaxed);
  bytes_metric_.add(bytes);
}

// Returns the one that is to be removed: the smaller of two.
std::optional<runtime::Path> Parts::insert(const oci::Digest& digest, Part part) {
  if (params_.hold) part.room = params_.hold(part.size_bytes);
  Reservation given_back;  // after the lock
  const std::scoped_lock lock(mutex_);
  Part& kept = parts_[digest];
  if (kept.size_bytes >= part.size_bytes) {
    given_back = std::move(part.room);
    return std::move(part.path);
  }
  add_bytes(static_cast<std::int64_t>(part.size_bytes) - static_cast<std::int64_t>(kept.size_bytes));
  std::swap(kept, part);
  given_back = std::move(part.room);
  if (part.size_bytes == 0) return std::nullopt;
  return std::move(part.path);
}

std::optional<Parts::Part> Parts::take(const oci::Digest& digest) {
  const std::scoped_lock lock(mutex_);
  const auto at = parts_.find(digest);
  if (at == parts_.end()) return std::nullopt;
  Part part = std::move(at->second);
  parts_.erase(at);
  add_bytes(-static_cast<std::int64_t>(part.size_bytes));
  return part;
}

void Parts::remove(const runtime::Path& path) {
  const Result<void> removed = filesystem_.remove(path);
  if (!removed && removed.error().code != Errc::not_found) log::warn(kComponent, removed.error().message);
}

void Parts::start(const Stored& stored) {
  const Result<std::vector<runtime::DirectoryEntry>> entries = filesystem_.list(layout_.incoming());
  if (!entries) {
    log::warn(kComponent, entries.error().message);
    return;
  }
  for (const runtime::DirectoryEntry& entry : *entries) discover(entry, stored);
  if (const std::uint64_t kept = bytes(); kept != 0) {
    log::info(kComponent, fmt::format("{} of unfinished downloads of an earlier run are kept", format_bytes(kept)));
  }
}

void Parts::discover(const runtime::DirectoryEntry& entry, const Stored& stored) {
  const std::optional<oci::Digest> digest = Layout::part_digest(entry.name);
  if (!digest || entry.kind != runtime::FileStatus::Kind::regular) return;
  Part part{layout_.incoming() / entry.name, 0, {}, {}};
  const Result<runtime::FileStatus> status = filesystem_.status(part.path);
  if (!status) {
    log::warn(kComponent, status.error().message);
    return;
  }
  part.size_bytes = status->size_bytes;
  part.since = status->modified;
  if (part.size_bytes == 0 || part.size_bytes < params_.min_bytes || expired(part) || stored(*digest)) {
    remove(part.path);
  } else if (const std::optional<runtime::Path> loser = insert(*digest, std::move(part))) {
    remove(*loser);
  }
}

Result<Parts::Opened> Parts::open(const oci::Digest& digest) {
  std::optional<Part> part = take(digest);
  if (part && expired(*part)) {
    expired_metric_.add();
    remove(part->path);
    part.reset();
  }
  if (part) {
    const runtime::Path path = part->path;
    Result<Opened> opened = reopen(*std::move(part));
    if (opened) return opened;
    // It is no use to anybody: fetched whole, into a file of its own.
    log::warn(kComponent, fmt::format("a part cannot be used: {}", opened.error().message));
    remove(path);
  }
  return create(digest);
}

Result<Parts::Opened> Parts::reopen(Part part) {
  Result<runtime::File> file = filesystem_.open_write(part.path);
  if (!file) return file.error();
  const Result<std::uint64_t> size = filesystem_.size(*file);
  if (!size) return size.error();
  if (*size != part.size_bytes) {
    return Error(Errc::corrupt,
                 fmt::format("{} has {} bytes instead of {}", part.path.native(), *size, part.size_bytes));
  }
  return Opened{*std::move(file), std::move(part.path), part.size_bytes};
}

Result<Parts::Opened> Parts::create(const oci::Digest& digest) {
  runtime::Path path = layout_.part(digest);
  Result<runtime::File> file = filesystem_.create(path);
  if (!file && file.error().code == Errc::not_found) {
    // Somebody has tidied up.
    if (Result<void> made = filesystem_.create_directories(layout_.incoming()); !made) return made.error();
    file = filesystem_.create(path);
  }
  for (int i = 1; !file && file.error().code == Errc::exists && i < kMaxNames; ++i) {
    path = layout_.part(digest, next_number_.fetch_add(1, std::memory_order_relaxed));
    file = filesystem_.create(path);
  }
  if (!file) return file.error();
  return Opened{*std::move(file), std::move(path), 0};
}

bool Parts::keep(const runtime::Path& path, const oci::Digest& digest, std::uint64_t size_bytes) {
  if (size_bytes == 0 || size_bytes < params_.min_bytes || params_.max_age <= std::chrono::seconds::zero())
    return false;
  {
    // A write that failed half way may have left more than was counted.
    const Result<runtime::File> file = filesystem_.open_write(path);
    if (!file) return false;
    const Result<std::uint64_t> length = filesystem_.size(*file);
    if (!length || *length < size_bytes) return false;
    if (*length > size_bytes && !filesystem_.truncate(*file, size_bytes)) return false;
  }
  if (const std::optional<runtime::Path> loser = insert(digest, {path, size_bytes, clock_.wall(), {}})) {
    if (*loser == path) return false;
    remove(*loser);
  }
  return true;
}

template <class Condition>
std::uint64_t Parts::remove_if(Condition condition, std::size_t& count) {
  std::vector<Part> gone;
  std::uint64_t bytes = 0;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = parts_.begin(); at != parts_.end();) {
      if (!condition(at->second)) {
        ++at;
        continue;
      }
      bytes += at->second.size_bytes;
      gone.push_back(std::move(at->second));
      at = parts_.erase(at);
    }
    add_bytes(-static_cast<std::int64_t>(bytes));
  }
  for (const Part& part : gone) remove(part.path);
  count = gone.size();
  return bytes;
}

std::size_t Parts::expire() {
  std::size_t count = 0;
  remove_if([this](const Part& part) { return expired(part); }, count);
  expired_metric_.add(count);
  return count;
}

std::uint64_t Parts::drop(const oci::Digest& digest) {
  const std::optional<Part> part = take(digest);
  if (!part) return 0;
  remove(part->path);
  return part->size_bytes;
}

std::optional<std::uint64_t> Parts::find(const oci::Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  const auto at = parts_.find(digest);
  if (at == parts_.end()) return std::nullopt;
  return at->second.size_bytes;
}

std::uint64_t Parts::clear() {
  std::size_t count = 0;
  return remove_if([](const Part&) { return true; }, count);
}

}  // namespace sluice::store
