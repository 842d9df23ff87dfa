#include "streamcache/filestore.hpp"

#include <array>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::streamcache {
namespace {

constexpr const char* kComponent = "streamcache";
constexpr unsigned kFolderMode = 0700;
// Deeper than create() ever goes; a directory of ours holds no such trees.
constexpr int kMaxDepth = 8;

std::string random_id() {
  std::random_device device;
  std::string id;
  // 80 bits, as 20 hexadecimal digits.
  for (int i = 0; i < 5; ++i) id += fmt::format("{:04x}", device() & 0xffffU);
  return id;
}

bool gone(const Error& error) { return error.code == Errc::not_found; }

}  // namespace

Filestore::Filestore(Params params, runtime::Filesystem& filesystem, const Clock& clock, const Metrics& metrics)
    : params_(std::move(params)), filesystem_(filesystem), clock_(clock), metrics_(metrics) {}

std::string Filestore::next_name() {
  const std::uint64_t n = ++counter_;
  const std::scoped_lock lock(mutex_);
  if (id_.empty()) id_ = random_id();
  return fmt::format("{:02x}/{}-{}", n & 0xffU, id_, n);
}

Result<Filestore::Created> Filestore::create() {
  runtime::Path path = params_.directory / next_name();
  {
    // Before it exists, so that no walk comes in between.
    const std::scoped_lock lock(mutex_);
    in_use_.insert(path.native());
  }
  Result<runtime::File> file = filesystem_.create(path);
  if (!file && gone(file.error())) {
    // The folder is missing: at first, or because somebody has tidied up.
    const runtime::Path folder = path.parent_path();
    if (Result<void> made = filesystem_.create_directories(folder); !made) {
      forget(path);
      return made.error();
    }
    if (Result<void> set = filesystem_.set_mode(folder, kFolderMode); !set) {
      forget(path);
      return set.error();
    }
    file = filesystem_.create(path);
  }
  if (!file) {
    forget(path);
    return file.error();
  }
  return Created{*std::move(file), std::move(path)};
}

void Filestore::protect(const runtime::Path& path) {
  const std::scoped_lock lock(mutex_);
  in_use_.insert(path.native());
}

void Filestore::forget(const runtime::Path& path) {
  const std::scoped_lock lock(mutex_);
  in_use_.erase(path.native());
}

Result<void> Filestore::remove(const runtime::Path& path) {
  Result<void> removed = filesystem_.remove(path);
  forget(path);
  if (!removed && gone(removed.error())) return {};
  return removed;
}

Result<Filestore::Walk> Filestore::walk() {
  Walk walk;
  const auto max_age = std::chrono::duration_cast<Clock::Wall::duration>(params_.max_age);
  if (Result<void> visited = visit(params_.directory, clock_.wall() - max_age, walk, 0); !visited) {
    return visited.error();
  }
  metrics_.disk_usage_bytes.set(static_cast<std::int64_t>(walk.usage_bytes));
  return walk;
}

Result<void> Filestore::visit(const runtime::Path& folder, Clock::Wall cutoff, Walk& walk, int depth) {
  const Result<std::vector<runtime::DirectoryEntry>> entries = filesystem_.list(folder);
  if (!entries) {
    if (gone(entries.error())) return {};
    return entries.error();
  }
  for (const runtime::DirectoryEntry& entry : *entries) {
    const runtime::Path path = folder / entry.name;
    const Result<runtime::FileStatus> status = filesystem_.status(path);
    if (!status) {
      if (!gone(status.error())) log::warn(kComponent, status.error().message);
      continue;
    }
    if (status->kind == runtime::FileStatus::Kind::regular && status->modified < cutoff) {
      remove_old(path, *status, walk);
      continue;
    }
    walk.usage_bytes += status->size_bytes;
    if (status->kind != runtime::FileStatus::Kind::directory || depth == kMaxDepth) continue;
    if ((status->mode & kFolderMode) != kFolderMode) {
      // Unreadable folders would hide their files from us for ever.
      if (Result<void> set = filesystem_.set_mode(path, status->mode | kFolderMode); !set && !gone(set.error())) {
        log::warn(kComponent, set.error().message);
      }
    }
    if (Result<void> visited = visit(path, cutoff, walk, depth + 1); !visited) {
      log::warn(kComponent, visited.error().message);
    }
  }
  return {};
}

void Filestore::remove_old(const runtime::Path& path, const runtime::FileStatus& status, Walk& walk) {
  const bool in_use = [&] {
    const std::scoped_lock lock(mutex_);
    return in_use_.contains(path.native());
  }();
  if (!in_use) {
    const Result<void> removed = filesystem_.remove(path);
    if (removed) {
      ++walk.removed;
      metrics_.removed.add();
      return;
    }
    if (gone(removed.error())) return;
    log::warn(kComponent, removed.error().message);
  }
  walk.usage_bytes += status.size_bytes;
}

}  // namespace sluice::streamcache
