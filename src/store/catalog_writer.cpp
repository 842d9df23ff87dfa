#include "store/catalog_writer.hpp"

#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::store {

Catalog::Writer::Writer(const Params& params, metrics::Registry& registry)
    : params_(params),
      pending_gauge_(registry.gauge("sluice_catalog_pending", "Changes of the catalog that wait to be written")),
      written_(registry.counter("sluice_catalog_writes_total", "Changes of the catalog that were written")),
      dropped_(registry.counter("sluice_catalog_dropped_total",
                                "Changes of the catalog that were given up because too many waited")),
      errors_(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                               {{"operation", "catalog"}})) {}

void Catalog::Writer::start(std::unique_ptr<CatalogFile> file) {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::made) return;
  if (!file) {
    state_ = State::closed;
    return;
  }
  file_ = std::move(file);
  state_ = State::running;
  thread_ = std::thread([this] { run(); });
}

void Catalog::Writer::enqueue(Change change) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (state_ == State::closed) return;
    if (waiting_.size() >= params_.max_pending) trim();
    waiting_.push_back(std::move(change));
    pending_gauge_.set(static_cast<std::int64_t>(waiting_.size() + in_round_));
    wake = waiting_.size() == 1 || waiting_.size() == params_.batch_changes;
  }
  if (wake) wake_.notify_one();
}

// Additions go first: an addition that is lost costs a question to upstream or a walk, a removal that is lost would
// give a repository back what was taken from it.
void Catalog::Writer::trim() {
  const std::size_t before = waiting_.size();
  std::erase_if(waiting_, [](const Change& change) { return !change.removes(); });
  if (waiting_.size() >= params_.max_pending) waiting_.clear();
  dropped_.add(before - waiting_.size());
  log::error("store", fmt::format("the catalog cannot be written: {} changes were given up", before - waiting_.size()));
}

Result<void> Catalog::Writer::flush() {
  std::unique_lock lock(mutex_);
  if (state_ != State::running) return {};
  if (waiting_.empty() && in_round_ == 0) return {};
  // A round that runs already may have begun before the caller's last change.
  const std::uint64_t wanted = rounds_begun_ + 1;
  flush_wanted_ = true;
  wake_.notify_one();
  round_done_.wait(lock, [&] { return rounds_done_ >= wanted || state_ == State::closed; });
  return last_round_;
}

void Catalog::Writer::close() {
  {
    const std::scoped_lock lock(mutex_);
    if (state_ == State::running) state_ = State::closing;
    if (state_ == State::made) state_ = State::closed;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  file_.reset();
}

std::size_t Catalog::Writer::pending() const {
  const std::scoped_lock lock(mutex_);
  return waiting_.size() + in_round_;
}

void Catalog::Writer::run() {
  std::unique_lock lock(mutex_);
  const auto urgent = [this] { return state_ == State::closing || flush_wanted_; };
  while (state_ == State::running) {
    wake_.wait(lock, [&] { return urgent() || !waiting_.empty(); });
    // Let others join the batch; leave a database that has just failed alone for longer.
    if (failing_) {
      wake_.wait_for(lock, params_.retry_delay, urgent);
    } else {
      wake_.wait_for(lock, params_.batch_delay, [&] { return urgent() || waiting_.size() >= params_.batch_changes; });
    }
    write_round(lock);
  }
  if (!waiting_.empty()) write_round(lock);
  if (!waiting_.empty()) {
    log::error("store", fmt::format("{} changes of the catalog could not be written", waiting_.size()));
    dropped_.add(waiting_.size());
    waiting_.clear();
    pending_gauge_.set(0);
  }
  state_ = State::closed;
  round_done_.notify_all();
}

void Catalog::Writer::write_round(std::unique_lock<std::mutex>& lock) {
  flush_wanted_ = false;
  ++rounds_begun_;
  std::vector<Change> batch;
  batch.swap(waiting_);
  in_round_ = batch.size();

  lock.unlock();
  const Result<void> done = batch.empty() ? Result<void>() : file_->apply(batch);
  if (done) batch.clear();
  lock.lock();

  if (done) {
    written_.add(in_round_);
    if (failing_) log::info("store", "the catalog can be written again");
  } else {
    errors_.add();
    if (!failing_) log::error("store", fmt::format("the catalog cannot be written: {}", done.error().message));
    // Back to the front, in their order.
    batch.insert(batch.end(), std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
    waiting_.swap(batch);
  }
  failing_ = !done;
  in_round_ = 0;
  pending_gauge_.set(static_cast<std::int64_t>(waiting_.size()));
  last_round_ = done;
  rounds_done_ = rounds_begun_;
  round_done_.notify_all();
}

}  // namespace sluice::store
