#include "streamcache/storage.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace sluice::streamcache {
namespace {

class FileStorage final : public Storage {
 public:
  FileStorage(runtime::File file, runtime::Path path, runtime::Filesystem& filesystem, runtime::DiskPool& disk)
      : file_(std::move(file)), path_(std::move(path)), filesystem_(filesystem), disk_(disk) {}

  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    return filesystem_.write_at(file_, offset, bytes);
  }

  runtime::Task<Result<std::size_t>> read(std::uint64_t offset, std::span<std::byte> bytes) override {
    co_return co_await runtime::offload(
        disk_, [this, offset, bytes]() -> Result<std::size_t> { return filesystem_.read_at(file_, offset, bytes); },
        runtime::Lane::fast);
  }

  Result<std::unique_ptr<Storage>> with(runtime::File file, runtime::Path path) const override {
    return make_file_storage(std::move(file), std::move(path), filesystem_, disk_);
  }

  void discard_below(std::uint64_t) override {}
  std::uint64_t start() const override { return 0; }
  const runtime::File& file() const override { return file_; }
  const runtime::Path& path() const override { return path_; }

 private:
  const runtime::File file_;
  const runtime::Path path_;
  runtime::Filesystem& filesystem_;
  runtime::DiskPool& disk_;
};

class MemoryStorage final : public Storage {
 public:
  MemoryStorage(std::uint64_t start, std::shared_ptr<MemoryBudget> budget)
      : budget_(std::move(budget)), start_(start) {}
  MemoryStorage(const MemoryStorage&) = delete;
  MemoryStorage& operator=(const MemoryStorage&) = delete;
  ~MemoryStorage() override {
    if (!budget_) return;
    for (const std::vector<std::byte>& piece : pieces_) budget_->give(piece.size());
  }

  Result<void> write(std::uint64_t, std::span<const std::byte> bytes) override {
    if (budget_) budget_->take(bytes.size());
    const std::scoped_lock lock(mutex_);
    pieces_.emplace_back(bytes.begin(), bytes.end());
    return {};
  }

  runtime::Task<Result<std::size_t>> read(std::uint64_t offset, std::span<std::byte> bytes) override {
    co_return copy(offset, bytes);
  }

  Result<std::unique_ptr<Storage>> with(runtime::File, runtime::Path) const override {
    return Error(Errc::unsupported, "a stream in memory cannot go on from a file");
  }

  void discard_below(std::uint64_t position) override {
    const std::scoped_lock lock(mutex_);
    while (!pieces_.empty() && start_ + pieces_.front().size() <= position) {
      start_ += pieces_.front().size();
      if (budget_) budget_->give(pieces_.front().size());
      pieces_.pop_front();
    }
  }

  std::uint64_t start() const override {
    const std::scoped_lock lock(mutex_);
    return start_;
  }

  const runtime::File& file() const override { return none_; }
  const runtime::Path& path() const override { return no_path_; }

 private:
  Result<std::size_t> copy(std::uint64_t offset, std::span<std::byte> bytes) {
    const std::scoped_lock lock(mutex_);
    if (offset < start_) return Error(Errc::closed, "cannot read bytes that have left the window of an unstored fill");
    std::size_t done = 0;
    std::uint64_t start = start_;
    for (const std::vector<std::byte>& piece : pieces_) {
      const std::uint64_t at = offset + done;
      if (done == bytes.size()) break;
      if (at < start + piece.size()) {
        const auto skip = static_cast<std::size_t>(at - start);
        const std::size_t n = std::min(bytes.size() - done, piece.size() - skip);
        std::memcpy(bytes.data() + done, piece.data() + skip, n);
        done += n;
      }
      start += piece.size();
    }
    return done;
  }

  const std::shared_ptr<MemoryBudget> budget_;
  mutable std::mutex mutex_;                   // guards everything below
  std::deque<std::vector<std::byte>> pieces_;  // one for each write
  std::uint64_t start_;                        // where pieces_ begins
  const runtime::File none_;
  const runtime::Path no_path_;
};

}  // namespace

std::unique_ptr<Storage> make_file_storage(runtime::File file, runtime::Path path, runtime::Filesystem& filesystem,
                                           runtime::DiskPool& disk) {
  return std::make_unique<FileStorage>(std::move(file), std::move(path), filesystem, disk);
}

std::unique_ptr<Storage> make_memory_storage(std::uint64_t start, std::shared_ptr<MemoryBudget> budget) {
  return std::make_unique<MemoryStorage>(start, std::move(budget));
}

}  // namespace sluice::streamcache
