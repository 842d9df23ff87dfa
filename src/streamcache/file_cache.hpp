// The Cache that keeps its entries in files. See cache.hpp.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task_group.hpp"
#include "streamcache/cache.hpp"
#include "streamcache/filestore.hpp"

namespace sluice::streamcache {

class FileCache final : public Cache {
 public:
  struct Params {
    runtime::Path directory;
    // For how long after its creation an entry is in the index, and a file that nobody uses on disk.
    std::chrono::nanoseconds max_age = std::chrono::minutes{5};
    PipeParams pipe;
    // true: finished entries stay in the index until max_age, and running ones leave it then too. false: an entry
    // leaves the index when it finishes, because a store has taken its file over, and not before.
    bool retain = true;
    // A look-up that finds an entry that is being given up waits until it is gone, so that it finds what the producer
    // leaves. For producers that end soon when they are abandoned.
    bool wait_for_abandoned = false;
  };

  FileCache(Params params, runtime::Filesystem& filesystem, runtime::DiskPool& disk, const Clock& clock,
            runtime::TaskGroup& fills, metrics::Registry& registry);
  // All fills have ended.
  ~FileCache() override;

  using Cache::find_or_create;
  runtime::Task<Result<Lookup>> find_or_create(std::string key, Create create, OpenFile open) override;
  Result<std::unique_ptr<Stream>> find(std::string_view key) override;
  [[nodiscard]] std::optional<std::uint64_t> readable(std::string_view key) const override;
  // Whether there is an entry of that key; joins nothing.
  [[nodiscard]] bool contains(std::string_view key) const;

  // The fills that run, for people who look.
  struct InFlight {
    std::string key;
    std::chrono::nanoseconds age{0};
    std::uint64_t written_bytes = 0;  // those of a part that it goes on from included
    std::optional<std::uint64_t> size_bytes;
    std::size_t readers = 0;
    bool waits_for_readers = false;  // the window is full: the fastest reader sets the pace, not upstream
    bool unstored = false;
  };
  // The oldest first, at most `most`.
  [[nodiscard]] std::vector<InFlight> in_flight(std::size_t most) const;

  // Evicts what is older than max_age; unlinking happens on the disk pool. Does not block.
  void sweep();
  // sweep() and Filestore::walk() every min(max_age, 1 minute), until stop() or a cancellation. To be spawned once,
  // into a group.
  runtime::Task<void> maintain();
  void stop() override;

  [[nodiscard]] Filestore& filestore() noexcept { return *filestore_; }
  [[nodiscard]] std::size_t size() const;

 private:
  struct Entry;
  class Fill;
  struct Upkeep;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view key) const noexcept { return std::hash<std::string_view>{}(key); }
  };
  using Index = std::unordered_map<std::string, std::shared_ptr<Entry>, Hash, std::equal_to<>>;

  // What a lookup found, or with `created` the first stream of what it has inserted.
  struct Seat {
    std::shared_ptr<Entry> entry;
    std::unique_ptr<Stream> created;
  };

  Seat find_or_insert(const std::string& key);
  std::unique_ptr<Stream> join(const Entry& entry);
  runtime::Task<void> fill(Fill fill, Create create, OpenFile open);
  runtime::Task<Result<void>> open_pipe(std::shared_ptr<Pipe> pipe, OpenFile open);
  runtime::Task<void> tend();
  runtime::Task<void> return_file(OpenedFile opened);
  runtime::Task<Result<void>> produce(std::shared_ptr<Pipe> pipe, Create create, OpenFile open);
  runtime::Task<Result<void>> close_check(std::shared_ptr<Pipe> pipe);
  void settle(const Entry& entry, Result<void> outcome);
  [[nodiscard]] bool holds(const Entry& entry) const;
  void drop(const Entry& entry);
  void dispose(const Entry& entry);
  void remove_later(runtime::Path path);

  const Params params_;
  runtime::Filesystem& filesystem_;
  runtime::DiskPool& disk_;
  const Clock& clock_;
  runtime::TaskGroup& fills_;
  const Metrics metrics_;
  const std::shared_ptr<Filestore> filestore_;  // shared with what is posted to the pool
  const std::shared_ptr<Upkeep> upkeep_;

  mutable std::mutex mutex_;  // guards index_
  Index index_;
};

}  // namespace sluice::streamcache
