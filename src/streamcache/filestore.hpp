// Files with unique names, for entries that do not care how their file is called.
//
// Names are `<2 hex>/<20 hex>-<counter>`: a random number for the instance and a counter, in one of 256 folders by the
// counter's low byte. So several instances, of one process or of many, may share a directory. Nothing is remembered
// over a restart: what a dead process left is found by a walk, which removes every regular file older than `max_age`,
// whatever its name. A file that create() handed out is safe from this instance's walk until forget().
//
// Owner: a FileCache. Threads: thread-safe; all functions block on the disk and belong on the disk pool, except forget.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "runtime/filesystem.hpp"
#include "streamcache/metrics.hpp"

namespace sluice::streamcache {

class Filestore {
 public:
  struct Params {
    runtime::Path directory;
    // Since the last change of the file.
    std::chrono::nanoseconds max_age = std::chrono::minutes{5};
  };
  struct Created {
    runtime::File file;
    runtime::Path path;
  };
  struct Walk {
    std::uint64_t usage_bytes = 0;  // files and folders that stayed
    std::uint64_t removed = 0;
  };

  Filestore(Params params, runtime::Filesystem& filesystem, const Clock& clock, const Metrics& metrics);
  Filestore(const Filestore&) = delete;
  Filestore& operator=(const Filestore&) = delete;

  // A new, empty file, open for reading and writing. Folders are made when they are missing, mode 0700.
  Result<Created> create();

  // Protects a file that is not from create().
  void protect(const runtime::Path& path);
  // From now on a walk may remove `path`, when it is old enough.
  void forget(const runtime::Path& path);
  // Unlinks `path` and forgets it. What is gone already is no error.
  Result<void> remove(const runtime::Path& path);

  // Removes what is too old, makes folders readable that are not, and sets the gauge of the disk usage. Goes on past
  // single failures, which are logged; what vanishes meanwhile is none. Error: the directory itself cannot be listed.
  Result<Walk> walk();

 private:
  std::string next_name();
  Result<void> visit(const runtime::Path& folder, Clock::Wall cutoff, Walk& walk, int depth);
  void remove_old(const runtime::Path& path, const runtime::FileStatus& status, Walk& walk);

  const Params params_;
  runtime::Filesystem& filesystem_;
  const Clock& clock_;
  const Metrics metrics_;
  std::atomic<std::uint64_t> counter_{0};

  std::mutex mutex_;  // guards everything below
  std::string id_;    // drawn at the first create
  std::unordered_set<std::string> in_use_;
};

}  // namespace sluice::streamcache
