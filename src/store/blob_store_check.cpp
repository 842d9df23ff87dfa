// Checking blobs at rest, and what becomes of those that are damaged.
#include <algorithm>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "store/blob_store.hpp"
#include "store/evictor.hpp"

namespace sluice::store {
namespace {

constexpr std::uint64_t kPieceBytes = 256 << 10;
// In the catalog's meta, followed by the digest.
constexpr std::string_view kCondemnedKey = "condemned ";
constexpr std::size_t kMostCondemned = 10'000;

}  // namespace

BlobStore::Checked BlobStore::check(const oci::Digest& digest, const std::function<bool(std::uint64_t)>& on_bytes) {
  runtime::File file;
  std::uint64_t size = 0;
  Checked out = open_to_check(digest, file, size);
  if (out.state == Checked::State::sound) out = read_to_check(digest, file, size, on_bytes);
  if (out.dropped) evictor_->tell(digest);
  return out;
}

BlobStore::Checked BlobStore::open_to_check(const oci::Digest& digest, runtime::File& file, std::uint64_t& size) {
  const std::scoped_lock lock(commit_lock(digest));
  const std::optional<IndexEntry> entry = index_.find(digest);
  if (!entry) return {Checked::State::gone};
  size = entry->size;
  Result<runtime::File> opened = filesystem_.open_read(layout_.blob(digest));
  if (opened) {
    file = std::move(*opened);
    return {};
  }
  if (opened.error().code == Errc::not_found) {
    return condemn(digest, nullptr, Checked::State::missing, Error(Errc::not_found, "its file is missing"));
  }
  metrics_.open_errors.add();
  return condemn(digest, nullptr, Checked::State::unreadable, opened.error());
}

// Not under the lock: this takes as long as the disk needs, and as the caller lets it.
BlobStore::Checked BlobStore::read_to_check(const oci::Digest& digest, const runtime::File& file, std::uint64_t size,
                                            const std::function<bool(std::uint64_t)>& on_bytes) {
  oci::Hasher hasher(digest.algorithm());
  // One byte more than there should be tells a file that is longer.
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(size + 1, kPieceBytes)));
  std::uint64_t at = 0;
  for (std::size_t got = buffer.size(); got == buffer.size() && at <= size; at += got) {
    const Result<std::size_t> n = filesystem_.scan_at(file, at, buffer);
    if (!n) {
      metrics_.read_errors.add();
      const std::scoped_lock lock(commit_lock(digest));
      return condemn(digest, &file, Checked::State::unreadable, n.error());
    }
    got = *n;
    hasher.update(std::span<const std::byte>(buffer).first(got));
    if (!on_bytes(got)) return {Checked::State::stopped};
  }
  const oci::Digest computed = hasher.finish();
  if (at == size && computed == digest) return {};
  const std::string why = at == size  ? fmt::format("its content has the digest {}", computed.to_string())
                          : at < size ? fmt::format("its file has {} bytes instead of {}", at, size)
                                      : fmt::format("its file has more than {} bytes", size);
  const std::scoped_lock lock(commit_lock(digest));
  return condemn(digest, &file, Checked::State::damaged, Error(Errc::corrupt, why));
}

// From the meta of the catalog, before the walk.
void BlobStore::recall_condemned(const std::map<std::string, std::string>& meta) {
  const std::scoped_lock lock(condemned_mutex_);
  for (auto at = meta.lower_bound(std::string(kCondemnedKey)); at != meta.end(); ++at) {
    if (!at->first.starts_with(kCondemnedKey)) break;
    if (at->second.empty()) continue;  // pardoned
    const Result<oci::Digest> digest = oci::Digest::parse(std::string_view(at->first).substr(kCondemnedKey.size()));
    if (digest) condemned_.insert(*digest);
  }
}

void BlobStore::remember_condemned(const oci::Digest& digest) {
  {
    const std::scoped_lock lock(condemned_mutex_);
    if (condemned_.size() >= kMostCondemned) {
      all_condemned_ = true;
      return;
    }
    condemned_.insert(digest);
  }
  catalog_.set_meta(fmt::format("{}{}", kCondemnedKey, digest.to_string()), "1");
}

// Its file was replaced or removed. Under the commit lock.
void BlobStore::pardon(const oci::Digest& digest) {
  {
    const std::scoped_lock lock(condemned_mutex_);
    if (condemned_.erase(digest) == 0) return;
  }
  catalog_.set_meta(fmt::format("{}{}", kCondemnedKey, digest.to_string()), "");
}

bool BlobStore::condemned(const oci::Digest& digest) {
  const std::scoped_lock lock(condemned_mutex_);
  return all_condemned_ || condemned_.contains(digest);
}

// Takes a blob that is not what it should be out of everything, and its file into quarantine. `file` is what was looked
// at: another one of that name is left alone. Under the commit lock.
BlobStore::Checked BlobStore::condemn(const oci::Digest& digest, const runtime::File* file, Checked::State state,
                                      const Error& why) {
  Checked out{state, why.message};
  const runtime::Path path = layout_.blob(digest);
  const std::optional<IndexEntry> entry = index_.find(digest);
  if (!entry) return {Checked::State::gone};
  if (file != nullptr) {
    const Result<bool> same = filesystem_.is_at(*file, path);
    if (same && !*same) return {Checked::State::gone};
  }
  // That we have too many files open, or no memory, says nothing about this one.
  if (why.code == Errc::overloaded) return out;
  if (state != Checked::State::missing) {
    const Result<runtime::Path> moved = quarantine_.take(path, digest, entry->size);
    if (moved) {
      out.quarantined_to = *moved;
    } else {
      metrics_.remove_errors.add();
      log::error("store", moved.error().message);
      if (moved.error().code != Errc::not_found) remember_condemned(digest);
    }
  }
  forget(digest);
  out.dropped = true;
  metrics_.dropped.add();
  log::error(
      "store",
      fmt::format("{} is damaged: {}; {}, and it is fetched again when it is asked for", digest.to_string(), out.reason,
                  out.quarantined_to.empty() ? std::string("it is dropped")
                                             : fmt::format("its file is now {}", out.quarantined_to.native())));
  return out;
}

// What `open` and `read_small` say of a blob that turned out to be damaged: that it is not there, so that their caller
// fetches it again. Under the commit lock.
Error BlobStore::drop(const oci::Digest& digest, const Error& why, const runtime::File* file) {
  const auto state = why.code == Errc::not_found ? Checked::State::missing
                     : why.code == Errc::io      ? Checked::State::unreadable
                                                 : Checked::State::damaged;
  if (why.code == Errc::overloaded) return why;
  condemn(digest, file, state, why);
  return {Errc::not_found, fmt::format("{} is not stored: {}", digest.to_string(), why.message)};
}

}  // namespace sluice::store
