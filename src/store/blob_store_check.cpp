// Checking blobs at rest, and what becomes of those that are damaged.
#include <algorithm>
#include <exception>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "store/blob_store.hpp"
#include "store/evictor.hpp"

namespace sluice::store {
namespace {

namespace asio = boost::asio;

constexpr std::uint64_t kPieceBytes = 256 << 10;
// In the catalog's meta, followed by the digest.
constexpr std::string_view kCondemnedKey = "condemned ";
constexpr std::size_t kMostCondemned = 10'000;
constexpr std::size_t kMostVouched = 10'000;

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
  // All of the file, whatever its length: the digest decides, and what is on record of it may be what is wrong.
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(size + 1, kPieceBytes)));
  std::uint64_t at = 0;
  for (std::size_t got = buffer.size(); got == buffer.size(); at += got) {
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
  const std::scoped_lock lock(commit_lock(digest));
  if (computed == digest) {
    const Result<bool> same = filesystem_.is_at(file, layout_.blob(digest));
    if (!same || !*same) return {Checked::State::gone};
    correct_size(digest, at);
    return {};
  }
  const std::string why = at == size ? fmt::format("its content has the digest {}", computed.to_string())
                                     : fmt::format("its file has {} bytes instead of {}", at, size);
  return condemn(digest, &file, Checked::State::damaged, Error(Errc::corrupt, why));
}

// The file is the blob, and what is on record of its length is wrong. Under the commit lock.
void BlobStore::correct_size(const oci::Digest& digest, std::uint64_t size) {
  const std::optional<IndexEntry> known = index_.find(digest);
  if (!known || known->size == size || !writable()) return;
  log::warn("store",
            fmt::format("corrected the catalog: {} has {} bytes, not {}", digest.to_string(), size, known->size));
  IndexEntry entry = *known;
  entry.size = size;
  index_.set(digest, entry);
  open_files_.erase(digest);
  ledger_.gone(known->size);
  ledger_.found(size);
  catalog_.put_blob(row(digest, entry));
  show_totals();
}

// For an open that found the file other than it should be: reads it, and afterwards it is right or dropped. Errors:
// those of reading it that say nothing about the blob.
Result<void> BlobStore::settle_doubt(const oci::Digest& digest) {
  runtime::File file;
  std::uint64_t size = 0;
  Checked checked = open_to_check(digest, file, size);
  Result<runtime::FileStatus> before = Error(Errc::not_found);
  if (file.is_open()) before = filesystem_.status(file);
  // Somebody else's doubt may have been the same, and be settled by now.
  if (before && before->size_bytes == size && vouched(digest, *before)) return {};
  if (checked.state == Checked::State::sound) {
    checked = read_to_check(digest, file, size, [](std::uint64_t) { return true; });
  }
  if (checked.dropped) evictor_->tell(digest);
  if (checked.state == Checked::State::unreadable && !checked.dropped) return Error(Errc::overloaded, checked.reason);
  if (checked.state == Checked::State::sound && before) vouch(digest, *before);
  return {};
}

// The same for all who have that doubt at the same time: one reading, however large the file and however many they are.
runtime::Task<Result<void>> BlobStore::settle(oci::Digest digest) {
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<runtime::Executor>, void(Result<void>)>(
      [this, digest](auto handler) {
        // Shared, because std::function wants copyable and a coroutine handler is not.
        auto done = std::make_shared<decltype(handler)>(std::move(handler));
        auto executor = asio::get_associated_executor(*done);
        // The guard goes along: once the task can go on, its loop may be gone before this is.
        Settled settled = [done, guard = asio::make_work_guard(executor)](const Result<void>& result) mutable {
          const auto on = guard.get_executor();
          asio::post(on, [done = std::move(done), guard = std::move(guard), result] { std::move (*done)(result); });
        };
        bool first = false;
        {
          const std::scoped_lock lock(settling_mutex_);
          std::vector<Settled>& waiting = settling_[digest];
          first = waiting.empty();
          waiting.push_back(std::move(settled));
        }
        if (first) pool_.post(runtime::Lane::bulk, [this, digest] { run_settling(digest); });
      },
      runtime::kAwait);
}

void BlobStore::run_settling(const oci::Digest& digest) {
  Result<void> result{};
  try {
    result = settle_doubt(digest);
  } catch (const std::exception& error) {
    result = Error(Errc::internal, error.what());
  }
  std::vector<Settled> waiting;
  {
    const std::scoped_lock lock(settling_mutex_);
    const auto at = settling_.find(digest);
    waiting = std::move(at->second);
    settling_.erase(at);
  }
  for (const Settled& settled : waiting) settled(result);
}

// The file had its digest when it was last changed then.
void BlobStore::vouch(const oci::Digest& digest, const runtime::FileStatus& status) {
  if (status.links <= 1) return;
  const std::scoped_lock lock(vouched_mutex_);
  if (vouched_.size() >= kMostVouched) vouched_.clear();
  vouched_.insert_or_assign(digest, status.changed);
}

bool BlobStore::vouched(const oci::Digest& digest, const runtime::FileStatus& status) {
  const std::scoped_lock lock(vouched_mutex_);
  const auto at = vouched_.find(digest);
  return at != vouched_.end() && at->second == status.changed;
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
  // Another process may have the root by now.
  if (!writable()) {
    open_files_.erase(digest);
    index_.erase(digest);
    out.dropped = true;
    return out;
  }
  if (why.code == Errc::unsupported) return refuse(digest, why);
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

// What stands in the blob's place is none of ours: it is left there, and replaced when the blob is stored again. Under
// the commit lock.
BlobStore::Checked BlobStore::refuse(const oci::Digest& digest, const Error& why) {
  forget(digest);
  metrics_.dropped.add();
  log::error("store", fmt::format("ignored in place of a blob: {}; the blob is fetched again", why.message));
  return {.state = Checked::State::damaged, .reason = why.message, .dropped = true};
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
