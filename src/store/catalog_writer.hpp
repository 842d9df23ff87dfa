// The thread that writes the catalog's changes to SQLite, in batches. Internal to the catalog.
//
//   made ──start()──▶ running ──close()──▶ closed        enqueue works in all three; what comes after close is dropped
//
// Thread-safe; flush blocks.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "store/catalog.hpp"
#include "store/catalog_change.hpp"
#include "store/catalog_file.hpp"

namespace sluice::store {

class Catalog::Writer {
 public:
  Writer(const Params& params, metrics::Registry& registry);
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { close(); }

  // Without a file changes are dropped.
  void start(std::unique_ptr<CatalogFile> file);
  void enqueue(Change change);
  Result<void> flush();
  void close();
  [[nodiscard]] std::size_t pending() const;

 private:
  enum class State : std::uint8_t { made, running, closing, closed };

  void run();
  void write_round(std::unique_lock<std::mutex>& lock);
  void trim();

  const Params& params_;
  metrics::Gauge& pending_gauge_;
  metrics::Counter& written_;
  metrics::Counter& dropped_;
  metrics::Counter& errors_;

  mutable std::mutex mutex_;  // guards everything below but file_, which is the thread's
  std::condition_variable wake_;
  std::condition_variable round_done_;
  State state_ = State::made;
  std::vector<Change> waiting_;
  std::size_t in_round_ = 0;  // taken out of waiting_ and being written
  std::uint64_t rounds_begun_ = 0;
  std::uint64_t rounds_done_ = 0;
  bool flush_wanted_ = false;
  bool failing_ = false;
  Result<void> last_round_;

  std::unique_ptr<CatalogFile> file_;
  std::thread thread_;
};

}  // namespace sluice::store
