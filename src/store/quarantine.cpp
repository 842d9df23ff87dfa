#include "store/quarantine.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"

namespace sluice::store {
namespace {

constexpr const char* kComponent = "store";
// Of one blob, at a time.
constexpr int kMaxNames = 100;

}  // namespace

Quarantine::Quarantine(const Layout& layout, std::chrono::seconds max_age, runtime::Filesystem& filesystem,
                       Ledger& ledger, const Clock& clock, metrics::Registry& registry)
    : layout_(layout),
      max_age_(max_age),
      filesystem_(filesystem),
      ledger_(ledger),
      clock_(clock),
      bytes_(registry.gauge("sluice_store_quarantine_bytes", "Bytes of damaged blobs that were set aside")) {}

void Quarantine::add(Kept kept) {
  kept.room = ledger_.hold(kept.size_bytes, Ledger::Kind::idle);
  bytes_.add(static_cast<std::int64_t>(kept.size_bytes));
  const std::scoped_lock lock(mutex_);
  kept_.push_back(std::move(kept));
}

void Quarantine::start() {
  const Result<std::vector<runtime::DirectoryEntry>> entries = filesystem_.list(layout_.quarantine());
  if (!entries) {
    if (entries.error().code != Errc::not_found) log::warn(kComponent, entries.error().message);
    return;
  }
  for (const runtime::DirectoryEntry& entry : *entries) {
    const runtime::Path path = layout_.quarantine() / entry.name;
    const Result<runtime::FileStatus> status = filesystem_.status(path);
    if (!status || status->kind != runtime::FileStatus::Kind::regular) continue;
    add({path, status->size_bytes, status->changed, {}});
  }
  expire();
}

Result<runtime::Path> Quarantine::free_name(const oci::Digest& digest) const {
  const std::string name = fmt::format("{}-{}", digest.algorithm_name(), digest.encoded());
  runtime::Path path = layout_.quarantine() / name;
  for (int n = 1; n <= kMaxNames; ++n) {
    const Result<runtime::FileStatus> status = filesystem_.status(path);
    if (!status && status.error().code == Errc::not_found) return path;
    if (!status) return status.error();
    path = layout_.quarantine() / fmt::format("{}.{}", name, n);
  }
  return Error(Errc::exists, fmt::format("there are {} of {} already", kMaxNames, name));
}

Result<runtime::Path> Quarantine::take(const runtime::Path& from, const oci::Digest& digest, std::uint64_t size_bytes) {
  if (max_age_ > std::chrono::seconds::zero()) {
    Result<void> made = filesystem_.create_directories(layout_.quarantine());
    const Result<runtime::Path> to = made ? free_name(digest) : made.error();
    const Result<void> moved = to ? filesystem_.rename(from, *to) : to.error();
    if (moved) {
      add({*to, size_bytes, clock_.wall(), {}});
      return *to;
    }
    log::warn(kComponent, fmt::format("cannot move a damaged blob to quarantine: {}", moved.error().message));
  }
  if (const Result<void> removed = filesystem_.remove(from); !removed) return removed.error();
  return runtime::Path();
}

// False when there is none. One that cannot be removed goes to `stuck`, so that each is tried once.
bool Quarantine::remove_oldest(bool only_expired, std::uint64_t& freed, std::vector<Kept>& stuck) {
  Kept oldest;
  {
    const std::scoped_lock lock(mutex_);
    const auto at =
        std::min_element(kept_.begin(), kept_.end(), [](const Kept& a, const Kept& b) { return a.since < b.since; });
    if (at == kept_.end() || (only_expired && clock_.wall() - at->since < max_age_)) return false;
    oldest = std::move(*at);
    kept_.erase(at);
  }
  const Result<void> removed = filesystem_.remove(oldest.path);
  if (!removed && removed.error().code != Errc::not_found) {
    log::warn(kComponent, removed.error().message);
    stuck.push_back(std::move(oldest));
    return true;
  }
  if (removed) log::info(kComponent, fmt::format("removed {}", oldest.path.native()));
  bytes_.add(-static_cast<std::int64_t>(oldest.size_bytes));
  freed += on_disk(oldest.size_bytes);
  return true;
}

void Quarantine::keep(std::vector<Kept> stuck) {
  const std::scoped_lock lock(mutex_);
  std::move(stuck.begin(), stuck.end(), std::back_inserter(kept_));
}

void Quarantine::expire() {
  std::uint64_t freed = 0;
  std::vector<Kept> stuck;
  while (remove_oldest(true, freed, stuck)) {
  }
  keep(std::move(stuck));
}

std::uint64_t Quarantine::make_room(std::uint64_t bytes) {
  std::uint64_t freed = 0;
  std::vector<Kept> stuck;
  while (freed < bytes && remove_oldest(false, freed, stuck)) {
  }
  keep(std::move(stuck));
  return freed;
}

}  // namespace sluice::store
