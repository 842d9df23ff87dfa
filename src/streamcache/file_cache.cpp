#include "streamcache/file_cache.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/every.hpp"
#include "runtime/timer.hpp"
#include "streamcache/producer.hpp"

namespace sluice::streamcache {
namespace {

constexpr const char* kComponent = "streamcache";

using runtime::Timer;

std::chrono::nanoseconds upkeep_interval(std::chrono::nanoseconds max_age) {
  constexpr std::chrono::nanoseconds kLongest = std::chrono::minutes{1};
  return max_age <= std::chrono::nanoseconds::zero() ? kLongest : std::min(max_age, kLongest);
}

}  // namespace

struct FileCache::Entry {
  const std::string key;
  const Clock::Monotonic created;
  const std::shared_ptr<Pipe> pipe;
};

// Lets stop() reach the timer of maintain(), on that one's loop.
struct FileCache::Upkeep {
  std::mutex mutex;  // guards everything below
  bool stopped = false;
  std::weak_ptr<Timer> timer;

  // Whether to go on, with `running` as the timer to cancel.
  bool go_on(const std::shared_ptr<Timer>& running) {
    const std::scoped_lock lock(mutex);
    timer = running;
    return !stopped;
  }
};

// Owns the end of a fill: settles the entry exactly once, also when its task is dropped unstarted or is unwound.
class FileCache::Fill {
 public:
  Fill(FileCache& cache, std::shared_ptr<Entry> entry)
      : cache_(cache), in_flight_(cache.metrics_.fills_in_flight), entry_(std::move(entry)) {}
  Fill(Fill&& other) noexcept
      : cache_(other.cache_), in_flight_(std::move(other.in_flight_)), entry_(std::move(other.entry_)) {}
  Fill& operator=(Fill&&) = delete;
  Fill(const Fill&) = delete;
  Fill& operator=(const Fill&) = delete;
  ~Fill() { settle(Error(Errc::cancelled, "the fill was cancelled")); }

  [[nodiscard]] const std::shared_ptr<Entry>& entry() const noexcept { return entry_; }

  void settle(Result<void> outcome) {
    if (const std::shared_ptr<Entry> entry = std::exchange(entry_, nullptr)) cache_.settle(*entry, std::move(outcome));
  }

 private:
  FileCache& cache_;
  metrics::GaugeGuard in_flight_;
  std::shared_ptr<Entry> entry_;
};

FileCache::FileCache(Params params, runtime::Filesystem& filesystem, runtime::DiskPool& disk, const Clock& clock,
                     runtime::TaskGroup& fills, metrics::Registry& registry)
    : params_(std::move(params)),
      filesystem_(filesystem),
      disk_(disk),
      clock_(clock),
      fills_(fills),
      metrics_(registry),
      filestore_(std::make_shared<Filestore>(Filestore::Params{params_.directory, params_.max_age}, filesystem, clock,
                                             metrics_)),
      upkeep_(std::make_shared<Upkeep>()) {}

FileCache::~FileCache() {
  stop();
  metrics_.index_entries.add(-static_cast<std::int64_t>(index_.size()));
}

runtime::Task<Result<Lookup>> FileCache::find_or_create(std::string key, Create create, OpenFile open) {
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  Lookup lookup;
  std::shared_ptr<Entry> entry;
  for (;;) {
    Seat seat = find_or_insert(key);
    entry = std::move(seat.entry);
    lookup.created = seat.created != nullptr;
    lookup.stream = lookup.created ? std::move(seat.created) : join(*entry);
    if (lookup.stream) break;
    if (params_.wait_for_abandoned && entry->pipe->given_up()) {
      if (const Result<void> ended = co_await entry->pipe->wait_ended(); !ended) co_return ended.error();
    }
    drop(*entry);
  }
  if (!lookup.created) co_return lookup;

  if (!fills_.spawn(executor, fill(Fill(*this, std::move(entry)), std::move(create), std::move(open)))) {
    co_return Error(Errc::shutting_down);
  }
  if (Result<void> opened = co_await lookup.stream->wait_open(); !opened) co_return opened.error();
  co_return lookup;
}

// A new entry has its first reader before anybody else can see it.
FileCache::Seat FileCache::find_or_insert(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<Entry>& place = index_[key];
  if (place) return {place, nullptr};
  place = std::make_shared<Entry>(Entry{key, clock_.now(), std::make_shared<Pipe>(params_.pipe, clock_, metrics_)});
  metrics_.index_entries.add(1);
  return {place, place->pipe->open_reader().value()};
}

// Null where the entry cannot be read any more.
std::unique_ptr<Stream> FileCache::join(const Entry& entry) {
  Result<std::unique_ptr<Stream>> stream = entry.pipe->open_reader();
  if (!stream) return nullptr;
  if (entry.pipe->ended()) {
    // Somebody has unlinked the file: its readers go on, but it is not ours to hand out.
    const Result<runtime::FileStatus> status = filesystem_.status(entry.pipe->file());
    if (!status || status->links == 0) return nullptr;
  }
  return *std::move(stream);
}

Result<std::unique_ptr<Stream>> FileCache::find(std::string_view key) {
  std::shared_ptr<Entry> entry;
  {
    const std::scoped_lock lock(mutex_);
    if (const auto at = index_.find(key); at != index_.end()) entry = at->second;
  }
  if (entry) {
    if (std::unique_ptr<Stream> stream = join(*entry)) return stream;
    drop(*entry);
  }
  return Error(Errc::not_found, "no such entry");
}

runtime::Task<void> FileCache::fill(Fill fill, Create create, OpenFile open) {
  fill.settle(co_await produce(fill.entry()->pipe, std::move(create), std::move(open)));
}

runtime::Task<Result<void>> FileCache::open_pipe(std::shared_ptr<Pipe> pipe, OpenFile open) {
  // Not given up half way: what was opened, which may be a part that somebody has waited for, would belong to nobody.
  co_await runtime::asio::this_coro::throw_if_cancelled(false);
  const auto make = [this, open = std::move(open)]() -> Result<OpenedFile> {
    if (open) {
      Result<OpenedFile> made = open();
      if (made) filestore_->protect(made->path);
      return made;
    }
    Result<Filestore::Created> made = filestore_->create();
    if (!made) return made.error();
    return OpenedFile{std::move(made->file), std::move(made->path), 0, {}};
  };
  Result<OpenedFile> opened = co_await runtime::offload(disk_, make, runtime::Lane::fast);
  const runtime::asio::cancellation_state state = co_await runtime::asio::this_coro::cancellation_state;
  if (state.cancelled() != runtime::asio::cancellation_type::none) {
    if (opened) co_await return_file(*std::move(opened));
    co_return Error(Errc::cancelled, "the fill was cancelled");
  }
  co_await runtime::asio::this_coro::throw_if_cancelled(true);
  if (opened) {
    // Before anything else is awaited: from here on the pipe knows which file is to be removed.
    pipe->open(make_file_storage(std::move(opened->file), std::move(opened->path), filesystem_, disk_),
               opened->part_bytes);
  } else if (params_.pipe.unstored) {
    pipe->open_unstored(opened.error());
  } else {
    co_return opened.error();
  }
  co_return Result<void>{};
}

// Of a fill that was cancelled before it had a producer.
runtime::Task<void> FileCache::return_file(OpenedFile opened) {
  const auto shared = std::make_shared<OpenedFile>(std::move(opened));
  co_await runtime::offload(disk_, [filestore = filestore_, shared] {
    if (shared->give_back && shared->give_back(*shared)) {
      filestore->forget(shared->path);
    } else if (const Result<void> removed = filestore->remove(shared->path); !removed) {
      log::warn(kComponent, removed.error().message);
    }
  });
}

runtime::Task<Result<void>> FileCache::produce(std::shared_ptr<Pipe> pipe, Create create, OpenFile open) {
  if (Result<void> opened = co_await open_pipe(pipe, std::move(open)); !opened) co_return opened;
  Result<void> outcome = co_await run_producer(std::move(create), std::make_shared<Writer>(pipe));
  if (outcome && !pipe->released() && !pipe->unstored()) co_return co_await close_check(std::move(pipe));
  co_return outcome;
}

// Readers share the descriptor, so it cannot be closed yet. Closing a duplicate tells as much: network file systems
// report on every close whether what was written has arrived.
runtime::Task<Result<void>> FileCache::close_check(std::shared_ptr<Pipe> pipe) {
  co_return co_await runtime::offload(disk_, [this, pipe]() -> Result<void> {
    const int fd = ::fcntl(pipe->file().fd(), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return errno_error(errno, "duplicate the descriptor of a fill");
    return filesystem_.close(runtime::File(fd));
  });
}

void FileCache::settle(const Entry& entry, Result<void> outcome) {
  if (outcome) outcome = entry.pipe->check();
  // Whether that is worth a line in the log the producer knows.
  if (!outcome) log::debug(kComponent, fmt::format("fill of {} failed: {}", entry.key, outcome.error().message));
  if (outcome || entry.pipe->written() != 0) {
    const std::chrono::duration<double> taken = clock_.now() - entry.created;
    (outcome ? metrics_.completed_seconds : metrics_.failed_seconds).observe(taken.count());
    metrics_.readers_of_fill.observe(static_cast<double>(entry.pipe->readers_so_far()));
  }
  // Out of the index first, told to the readers last: whoever hears of a failure and asks again gets a new entry.
  if (!outcome || !params_.retain) drop(entry);
  if (!outcome || !holds(entry)) dispose(entry);
  (void)entry.pipe->finish(std::move(outcome));
}

bool FileCache::holds(const Entry& entry) const {
  const std::scoped_lock lock(mutex_);
  const auto at = index_.find(entry.key);
  return at != index_.end() && at->second.get() == &entry;
}

void FileCache::drop(const Entry& entry) {
  std::shared_ptr<Entry> dropped;
  {
    const std::scoped_lock lock(mutex_);
    const auto at = index_.find(entry.key);
    if (at == index_.end() || at->second.get() != &entry) return;
    dropped = std::move(at->second);
    index_.erase(at);
    metrics_.index_entries.add(-1);
  }
}

// May be called more than once for an entry, and before it has a file.
void FileCache::dispose(const Entry& entry) {
  if (const std::unique_ptr<Storage> replaced = entry.pipe->take_replaced()) remove_later(replaced->path());
  const runtime::Path& path = entry.pipe->path();
  if (path.empty()) return;
  if (entry.pipe->released()) {
    filestore_->forget(path);
  } else {
    remove_later(path);
  }
}

void FileCache::remove_later(runtime::Path path) {
  disk_.post(runtime::Lane::bulk, [filestore = filestore_, path = std::move(path)] {
    if (const Result<void> removed = filestore->remove(path); !removed) {
      log::warn(kComponent, removed.error().message);
    }
  });
}

std::vector<FileCache::InFlight> FileCache::in_flight(std::size_t most) const {
  std::vector<std::shared_ptr<Entry>> entries;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [key, entry] : index_) {
      if (!entry->pipe->ended()) entries.push_back(entry);
    }
  }
  const auto older = [](const auto& a, const auto& b) { return a->created < b->created; };
  const std::size_t count = std::min(most, entries.size());
  std::partial_sort(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count), entries.end(), older);
  entries.resize(count);
  std::vector<InFlight> out;
  for (const std::shared_ptr<Entry>& entry : entries) {
    const Pipe& pipe = *entry->pipe;
    out.push_back({entry->key, clock_.now() - entry->created, pipe.written(), pipe.size(), pipe.readers(),
                   pipe.window_full(), pipe.unstored()});
  }
  return out;
}

void FileCache::sweep() {
  const Clock::Monotonic cutoff = clock_.now() - params_.max_age;
  std::vector<std::shared_ptr<Entry>> evicted;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = index_.begin(); at != index_.end();) {
      if (at->second->created < cutoff && (params_.retain || at->second->pipe->ended())) {
        evicted.push_back(std::move(at->second));
        at = index_.erase(at);
      } else {
        ++at;
      }
    }
    metrics_.index_entries.add(-static_cast<std::int64_t>(evicted.size()));
  }
  for (const std::shared_ptr<Entry>& entry : evicted) dispose(*entry);
}

runtime::Task<void> FileCache::maintain() {
  const std::shared_ptr<Upkeep> upkeep = upkeep_;
  const auto timer = std::make_shared<Timer>(co_await runtime::asio::this_coro::executor);
  // stop() marks first and posts its cancellation after that, so it is either seen here or finds the timer waiting.
  while (upkeep->go_on(timer)) {
    timer->expires_after(upkeep_interval(params_.max_age));
    const auto [error] = co_await timer->async_wait(runtime::kAwaitTuple);
    if (error || !upkeep->go_on(timer)) co_return;
    co_await runtime::attempt(kComponent, tend());
  }
}

runtime::Task<void> FileCache::tend() {
  sweep();
  const Result<Filestore::Walk> walked =
      co_await runtime::offload(disk_, [this]() -> Result<Filestore::Walk> { return filestore_->walk(); });
  if (!walked) log::warn(kComponent, walked.error().message);
}

void FileCache::stop() {
  std::shared_ptr<Timer> timer;
  {
    const std::scoped_lock lock(upkeep_->mutex);
    upkeep_->stopped = true;
    timer = upkeep_->timer.lock();
  }
  if (timer) runtime::asio::post(timer->get_executor(), [timer] { timer->cancel(); });
}

std::optional<std::uint64_t> FileCache::readable(std::string_view key) const {
  const std::scoped_lock lock(mutex_);
  const auto at = index_.find(key);
  if (at == index_.end()) return std::nullopt;
  return at->second->pipe->visible().position();
}

bool FileCache::contains(std::string_view key) const {
  const std::scoped_lock lock(mutex_);
  return index_.find(key) != index_.end();
}

std::size_t FileCache::size() const {
  const std::scoped_lock lock(mutex_);
  return index_.size();
}

}  // namespace sluice::streamcache
