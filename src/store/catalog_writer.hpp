// The thread that writes the catalog's changes to SQLite, in batches. Internal to the catalog.
//
//   made ──start()──▶ running ──close()──▶ closed        enqueue works in all three; what comes after close is dropped
//
// A file that cannot be written is tried again, then opened anew. One that is damaged, or not there any more, is made
// again and filled with all that is in memory; but one that could not be read at the start keeps the rows it has.
//
// Thread-safe; flush and check_file block.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "store/catalog.hpp"
#include "store/catalog_change.hpp"
#include "store/catalog_file.hpp"

namespace sluice::store {

class Catalog::Writer {
 public:
  struct Source {
    // Opens the file, after moving aside what cannot be used.
    std::function<Result<std::unique_ptr<CatalogFile>>()> open;
    // Gives everything that is in memory, in pieces.
    std::function<Result<void>(const std::function<Result<void>(std::span<const Change>)>& take)> everything;
  };

  Writer(const Params& params, runtime::Filesystem& filesystem, metrics::Registry& registry);
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { close(); }

  // Told why the file cannot be written, and "" when it can be again; on the writer's thread. Before start.
  void set_on_trouble(std::function<void(const std::string&)> on_trouble) { on_trouble_ = std::move(on_trouble); }
  // What the file under its name, which could not be opened to be written, is to memory.
  enum class There : std::uint8_t {
    nothing,  // there is none that counts: one is made from what is in memory
    read,     // memory has all of it
    unread,   // it may hold more than memory: nothing of it is overwritten but by what is learnt
  };
  // Without a file it tries to open or make one.
  void start(std::unique_ptr<CatalogFile> file, There there, Source source);
  // Looks whether the file is still there under its name.
  void check_file();
  void enqueue(Change change);
  Result<void> flush();
  void close();
  [[nodiscard]] std::size_t pending() const;

 private:
  enum class State : std::uint8_t { made, running, closing, closed };

  void run();
  void wait_for_work(std::unique_lock<std::mutex>& lock);
  Result<void> apply(std::span<const Change> batch);
  void write_round(std::unique_lock<std::mutex>& lock);
  Result<void> mend(std::unique_lock<std::mutex>& lock);
  Result<void> refill(bool keep_rows);
  [[nodiscard]] std::shared_ptr<const runtime::File> identify() const;
  Result<void> sync_journal();
  void note_outcome(const Result<void>& done);
  void trim();

  // What has to be done before anything is written.
  enum class Need : std::uint8_t { nothing, reopen, refill };

  const Params& params_;
  runtime::Filesystem& filesystem_;
  Source source_;  // set by start
  std::function<void(const std::string&)> on_trouble_;
  metrics::Gauge& pending_gauge_;
  metrics::Counter& written_;
  metrics::Counter& dropped_;
  metrics::Counter& errors_;
  metrics::Gauge& degraded_;

  mutable std::mutex mutex_;  // guards everything below but file_, which is the thread's
  std::condition_variable wake_;
  std::condition_variable round_done_;
  State state_ = State::made;
  std::vector<Change> waiting_;
  std::size_t in_round_ = 0;  // taken out of waiting_ and being written
  std::uint64_t rounds_begun_ = 0;
  std::uint64_t rounds_done_ = 0;
  bool flush_wanted_ = false;
  bool unsynced_ = false;  // something was written that a power failure may take back
  bool failing_ = false;
  int failures_ = 0;  // in a row
  Need need_ = Need::nothing;
  bool unread_ = false;                            // see There::unread
  std::shared_ptr<const runtime::File> identity_;  // the file that was opened, to tell it from another of its name
  Result<void> last_round_;

  std::unique_ptr<CatalogFile> file_;
  std::thread thread_;
};

}  // namespace sluice::store
