#include "store/blob_walker.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/guarded.hpp"

namespace sluice::store {

void BlobStore::Walker::start(std::chrono::milliseconds pause) {
  thread_ = std::thread([this, pause] { run(pause); });
}

void BlobStore::Walker::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void BlobStore::Walker::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return done_; });
}

bool BlobStore::Walker::stopping() {
  const std::scoped_lock lock(mutex_);
  return stop_;
}

bool BlobStore::Walker::rest(std::chrono::milliseconds pause) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, pause, [this] { return stop_; });
}

void BlobStore::Walker::run(std::chrono::milliseconds pause) {
  const bool rebuild = store_.rebuilding();
  for (const oci::Algorithm algorithm : {oci::Algorithm::sha256, oci::Algorithm::sha384, oci::Algorithm::sha512}) {
    if (!runtime::guarded("store", [&] { walk_algorithm(algorithm, pause); })) failed_ = true;
  }
  if (strange_ != 0) {
    log::warn("store", fmt::format("ignored {} files under {}: name is not a digest", strange_,
                                   store_.layout_.blobs().native()));
  }
  if (!stopping()) {
    if (found_ != 0) log::info("store", fmt::format("found {} blobs that the catalog did not have", found_));
    store_.walked_.store(true, std::memory_order_release);
    if (rebuild) {
      // Not complete when a directory could not be read: the next start walks again. This process takes what it has.
      if (!failed_) store_.catalog_.set_complete();
      store_.rebuilding_.store(false, std::memory_order_release);
      store_.metrics_.rebuilding.set(0);
    }
  }
  {
    const std::scoped_lock lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
}

std::vector<runtime::DirectoryEntry> BlobStore::Walker::list(const runtime::Path& directory) {
  Result<std::vector<runtime::DirectoryEntry>> entries = store_.filesystem_.list(directory);
  if (entries) return std::move(*entries);
  if (entries.error().code != Errc::not_found) {
    failed_ = true;
    store_.metrics_.walk_errors.add();
    log::error("store", entries.error().message);
  }
  return {};
}

void BlobStore::Walker::walk_algorithm(oci::Algorithm algorithm, std::chrono::milliseconds pause) {
  store_.set_mode(store_.layout_.blobs(algorithm), runtime::PosixFilesystem::directory_mode(store_.params_.file_mode));
  for (const runtime::DirectoryEntry& shelf : list(store_.layout_.blobs(algorithm))) {
    if (stopping()) return;
    if (shelf.kind != runtime::FileStatus::Kind::directory) {
      ++strange_;
      continue;
    }
    store_.set_mode(store_.layout_.blobs(algorithm) / shelf.name,
                    runtime::PosixFilesystem::directory_mode(store_.params_.file_mode));
    walk_shelf(algorithm, shelf.name);
    if (!rest(pause)) return;
  }
}

void BlobStore::Walker::walk_shelf(oci::Algorithm algorithm, const std::string& shelf) {
  for (const runtime::DirectoryEntry& file : list(store_.layout_.blobs(algorithm) / shelf)) {
    const std::optional<oci::Digest> digest = Layout::digest_of(algorithm, shelf, file.name);
    if (!digest || file.kind != runtime::FileStatus::Kind::regular) {
      ++strange_;
      continue;
    }
    if (store_.index_.find(*digest)) continue;
    if (stopping()) return;
    const std::scoped_lock lock(store_.commit_lock(*digest));
    if (store_.index_.find(*digest)) continue;
    const Result<std::optional<IndexEntry>> probed = store_.probe(*digest);
    if (probed && *probed) ++found_;
    if (!probed) failed_ = true;
  }
}

}  // namespace sluice::store
