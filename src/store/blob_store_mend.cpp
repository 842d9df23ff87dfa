// What the store does about a disk that fails below it, or a directory that is taken away.
#include <algorithm>
#include <bit>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "store/blob_store.hpp"
#include "store/scrubber.hpp"

namespace sluice::store {
namespace {

constexpr std::size_t kRowsInATurn = 8192;
// What must fit before the disk counts as having room again.
constexpr std::size_t kTryBytes = 1 << 20;

}  // namespace

void BlobStore::set_on_trouble(std::function<void(const std::string& why)> on_trouble) {
  on_trouble_ = on_trouble;
  catalog_.set_on_trouble(std::move(on_trouble));
}

void BlobStore::suspect(const oci::Digest& digest) {
  open_files_.erase(digest);
  scrubber_->suspect(digest);
}

void BlobStore::scrub() {
  if (running()) scrubber_->round();
}

Result<void> BlobStore::try_write() {
  if (!writable()) return Error(Errc::shutting_down, "the store is closed");
  const runtime::Path path = layout_.incoming() / fmt::format("try-{:x}-{}", temporary_id_,
                                                              next_temporary_.fetch_add(1, std::memory_order_relaxed));
  Result<void> made = filesystem_.create_directories(layout_.incoming());
  if (!made) return made;
  Result<runtime::File> file = filesystem_.create(path);
  if (!file) return file.error();
  Result<void> done = filesystem_.write_at(*file, 0, std::vector<std::byte>(kTryBytes));
  if (done && params_.durability != Durability::none) done = filesystem_.sync(*file);
  const Result<void> removed = filesystem_.remove(path);
  return done ? removed : done;
}

// The rows for a catalog that has to be made again.
void BlobStore::give_blobs(const std::function<void(std::span<const Catalog::BlobRow>)>& take) const {
  const std::size_t turns = std::bit_ceil(std::clamp<std::size_t>(entries() / kRowsInATurn, 1, 256));
  const unsigned step = static_cast<unsigned>(256 / turns);
  std::vector<Catalog::BlobRow> rows;
  for (unsigned first = 0; first < 256; first += step) {
    rows.clear();
    for (const BlobIndex::Blob& blob :
         index_.between(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(first + step - 1))) {
      rows.push_back(row(blob.digest, blob.entry));
    }
    take(rows);
  }
}

// On the maintenance thread, every second. A data directory that is removed under us, or replaced by an empty one, is
// made again: what was in it is noticed when it is opened. Its lock belongs to the file that is gone, so another
// process could take the new one.
void BlobStore::mend_root() {
  const Result<bool> ours = filesystem_.is_at(lock_, layout_.lock());
  if (!ours) return;  // a disk that fails is no directory that is lost
  if (*ours) {
    if (std::exchange(root_lost_, false)) {
      log::info("store", fmt::format("{} is there again", layout_.root().native()));
      if (on_trouble_) on_trouble_("");
    }
    catalog_.check_file();
    catalog_.forget_old_tags();
    return;
  }
  if (!root_lost_) log::error("store", fmt::format("{} is gone; creating it again", layout_.lock().native()));
  Result<void> made{};
  for (const runtime::Path& directory : {layout_.blobs(), layout_.incoming()}) {
    if (made) made = filesystem_.create_directories(directory);
  }
  if (made) made = take_lock();
  if (made) {
    log::info("store", fmt::format("{} is there again", layout_.root().native()));
    if (std::exchange(root_lost_, false) && on_trouble_) on_trouble_("");
    catalog_.check_file();
  } else if (!std::exchange(root_lost_, true)) {
    log::error("store", made.error().message);
    if (on_trouble_) on_trouble_(made.error().message);
  }
}

}  // namespace sluice::store
