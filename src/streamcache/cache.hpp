// A cache of byte streams that are so large that nobody wants to wait for them, or to store them twice.
//
// Because storing a gigabyte takes long, an entry is read while it is still being written: whoever asks first starts
// its fill, and everybody who asks meanwhile gets a stream on the same file. Because storing gigabytes is dear, the
// fill runs no further ahead of its fastest reader than a window: the disk fills no faster than somebody reads.
//
// Three parts: the Cache (an index of what is being filled, and with `retain` of what was filled lately), the Filestore
// (files with unique names), and the Pipe (one file, one writer, many readers; the essay is in pipe.hpp). An entry is a
// key, its time of creation, and a pipe, whose end is also the result of its producer.
//
// The fill belongs to nobody's request. It runs in a task group of its own, so the first caller may leave without harm
// to those who joined; cancelling the group fails what is left.
//
// Eviction. The index forgets entries after `max_age` and unlinks their files, the filestore unlinks files that a dead
// process has left behind. Both are safe at any time: Unix keeps an unlinked file for those who have it open.
//
//   an entry    in the index    who may do what
//   opening     yes             the fill creates its file, off the loop; joiners already have streams and wait
//   running     yes             find and find_or_create join it
//   finished    while retained  joined as long as its file has a name; else dropped and created anew
//   failed      no              removed from the index first, told to readers after, its file unlinked
//   evicted     no              its readers go on to the end; its fill, if it runs, finishes for them
//
// An entry is only ever removed from the index by identity, so an old one that fails late does not take its successor
// along.
//
// Owner: the application. Threads: all functions are thread-safe; tasks run on the loop that awaits them, a fill on the
// loop of the caller whose lookup created it. A cache outlives its fills (cancel the group, wait for it); streams may
// outlive the cache, but not the file system, the disk pool and the metrics registry.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"
#include "streamcache/pipe.hpp"

namespace sluice::streamcache {

// Produces the bytes of an entry. Its result, or the exception that it throws, is the entry's result, after the cache
// has checked that no write failed and that the size is the announced one. Called once, in the fill's task.
using Create = std::function<runtime::Task<Result<void>>(std::shared_ptr<Writer> writer)>;

// The file of an entry, open for reading and writing, where it is not one of the cache's own. `part_bytes` of it are
// there already (see Writer::take_part). The cache removes it when the producer does not release it.
struct OpenedFile {
  runtime::File file;
  runtime::Path path;
  std::uint64_t part_bytes = 0;
  // Called where no producer comes to take the file, because the fill was cancelled meanwhile; on the disk pool.
  // Whether somebody else has it now. Empty: nobody.
  std::function<bool(const OpenedFile&)> give_back = {};
};
// Runs on the disk pool, once, when the entry is created. Must not throw.
using OpenFile = std::function<Result<OpenedFile>()>;

struct Lookup {
  std::unique_ptr<Stream> stream;
  bool created = false;  // this call started the fill
};

class Cache {
 public:
  virtual ~Cache() = default;

  // Joins the entry of that key, or creates it and starts `create`. Suspends, on creation, until the entry has a file.
  // Errors: that of creating the file (joiners get it from their streams), shutting_down, cancelled (the fill goes on).
  // `open` gives the file; without, the cache makes one.
  virtual runtime::Task<Result<Lookup>> find_or_create(std::string key, Create create, OpenFile open) = 0;
  runtime::Task<Result<Lookup>> find_or_create(std::string key, Create create) {
    return find_or_create(std::move(key), std::move(create), OpenFile{});
  }

  // Joins only. Errors: not_found.
  virtual Result<std::unique_ptr<Stream>> find(std::string_view key) = 0;

  // How far the entry of that key can be read by now, joining nothing; nothing where there is none.
  [[nodiscard]] virtual std::optional<std::uint64_t> readable(std::string_view key) const;

  // Ends the cache's own upkeep. Idempotent, returns at once; entries and lookups are not affected.
  virtual void stop() = 0;
};

// Every lookup is a miss that nobody can join and nothing is stored: the bytes go through memory, at most a window of
// them, to the one stream. A fill whose stream is closed fails.
class NullCache final : public Cache {
 public:
  // `pipe.window_bytes` bounds the memory of one stream; none is taken as the default.
  NullCache(const PipeParams& pipe, const Clock& clock, runtime::TaskGroup& fills, metrics::Registry& registry);

  using Cache::find_or_create;
  runtime::Task<Result<Lookup>> find_or_create(std::string key, Create create, OpenFile open) override;
  Result<std::unique_ptr<Stream>> find(std::string_view key) override;
  void stop() override {}

 private:
  const PipeParams params_;
  const Clock& clock_;
  runtime::TaskGroup& fills_;
  const Metrics metrics_;
};

}  // namespace sluice::streamcache
