// Where the bytes of one pipe stand: a file, or memory for a pipe without one.
//
// Owned by a Pipe. Threads: one writer; readers from any thread, for ranges that have been written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task.hpp"
#include "streamcache/memory_budget.hpp"

namespace sluice::streamcache {

class Storage {
 public:
  virtual ~Storage() = default;

  virtual Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // Up to bytes.size() from `offset`, 0 only where nothing was written. `bytes` must live until the task has ended.
  virtual runtime::Task<Result<std::size_t>> read(std::uint64_t offset, std::span<std::byte> bytes) = 0;
  // Storage of the same kind for another file, which has bytes in it already. Errors: unsupported, for memory.
  [[nodiscard]] virtual Result<std::unique_ptr<Storage>> with(runtime::File file, runtime::Path path) const = 0;
  // Nobody will read below `position` any more.
  virtual void discard_below(std::uint64_t position) = 0;
  // What stands before it has been discarded.
  [[nodiscard]] virtual std::uint64_t start() const = 0;
  // Not open, and empty, for memory.
  [[nodiscard]] virtual const runtime::File& file() const = 0;
  [[nodiscard]] virtual const runtime::Path& path() const = 0;
};

// Reads go through the pool: a page that has left memory must not hold up a loop. Who sends with sendfile uses file().
std::unique_ptr<Storage> make_file_storage(runtime::File file, runtime::Path path, runtime::Filesystem& filesystem,
                                           runtime::DiskPool& disk);

// Holds only what was written, from `start` on, and not yet discarded. That counts in `budget`, where there is one.
std::unique_ptr<Storage> make_memory_storage(std::uint64_t start = 0, std::shared_ptr<MemoryBudget> budget = nullptr);

}  // namespace sluice::streamcache
