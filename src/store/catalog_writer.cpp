#include "store/catalog_writer.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/guarded.hpp"

namespace sluice::store {

namespace {

// After so many failures in a row the file is opened anew.
constexpr int kFailuresBeforeReopening = 2;

}  // namespace

Catalog::Writer::Writer(const Params& params, runtime::Filesystem& filesystem, metrics::Registry& registry)
    : params_(params),
      filesystem_(filesystem),
      pending_gauge_(registry.gauge("sluice_catalog_pending", "Changes of the catalog that wait to be written")),
      written_(registry.counter("sluice_catalog_writes_total", "Changes of the catalog that were written")),
      dropped_(registry.counter("sluice_catalog_dropped_total",
                                "Changes of the catalog that were dropped because too many waited")),
      errors_(registry.counter("sluice_store_errors_total", "Failures of the disk below the store",
                               {{"operation", "catalog"}})),
      degraded_(registry.gauge("sluice_store_degraded", "1 while something cannot be written to the disk",
                               {{"reason", "catalog"}})) {}

void Catalog::Writer::start(std::unique_ptr<CatalogFile> file, There there, Source source) {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::made) return;
  source_ = std::move(source);
  file_ = std::move(file);
  if (file_) {
    identity_ = identify();
  } else {
    need_ = there == There::nothing ? Need::refill : Need::reopen;
    unread_ = there == There::unread;
    failing_ = true;  // and so the first attempt is not at once
    degraded_.set(1);
  }
  state_ = State::running;
  thread_ = std::thread([this] { run(); });
}

std::shared_ptr<const runtime::File> Catalog::Writer::identify() const {
  Result<runtime::File> file = filesystem_.open_read(params_.file);
  return file ? std::make_shared<const runtime::File>(std::move(*file)) : nullptr;
}

// Not under the lock: a disk that hangs must hold up nobody who enqueues.
void Catalog::Writer::check_file() {
  std::shared_ptr<const runtime::File> opened;
  {
    const std::scoped_lock lock(mutex_);
    if (state_ != State::running || need_ == Need::refill) return;
    opened = identity_;
  }
  if (!opened) return;
  const Result<bool> there = filesystem_.is_at(*opened, params_.file);
  if (!there || *there) return;
  {
    const std::scoped_lock lock(mutex_);
    // Another one may have been made meanwhile.
    if (identity_ != opened) return;
    need_ = Need::refill;
  }
  log::error("store", fmt::format("{} is gone; writing it again from memory", params_.file.native()));
  wake_.notify_one();
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
  if (waiting_.size() >= params_.max_pending) {
    waiting_.clear();
    unread_ = false;  // with removals lost, rows that nobody has read are not to be kept
  }
  dropped_.add(before - waiting_.size());
  // What was given up is still in memory.
  need_ = Need::refill;
  log::error("store", fmt::format("the catalog cannot be written: dropped {} changes", before - waiting_.size()));
}

Result<void> Catalog::Writer::flush() {
  std::unique_lock lock(mutex_);
  if (state_ == State::closing || state_ == State::closed) return Error(Errc::shutting_down, "the catalog is closed");
  if (state_ != State::running) return {};
  if (waiting_.empty() && in_round_ == 0 && !unsynced_) return {};
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
  while (state_ == State::running) {
    wait_for_work(lock);
    // One that throws (no memory) leaves its changes where they were; the next one takes them.
    if (!runtime::guarded("store", [&] { write_round(lock); }) && !lock.owns_lock()) lock.lock();
  }
  if (!waiting_.empty()) write_round(lock);
  if (!waiting_.empty()) {
    log::error("store",
               fmt::format("stopping: {} changes of the catalog could not be written and are lost", waiting_.size()));
    dropped_.add(waiting_.size());
    waiting_.clear();
    pending_gauge_.set(0);
  }
  state_ = State::closed;
  round_done_.notify_all();
}

void Catalog::Writer::wait_for_work(std::unique_lock<std::mutex>& lock) {
  const auto urgent = [this] { return state_ == State::closing || flush_wanted_; };
  wake_.wait(lock, [&] { return urgent() || !waiting_.empty() || need_ != Need::nothing; });
  // Let others join the batch; leave a database that has just failed alone for longer.
  if (failing_) {
    wake_.wait_for(lock, params_.retry_delay, urgent);
  } else {
    wake_.wait_for(lock, params_.batch_delay,
                   [&] { return urgent() || waiting_.size() >= params_.batch_changes || need_ != Need::nothing; });
  }
}

void Catalog::Writer::write_round(std::unique_lock<std::mutex>& lock) {
  const bool durable = std::exchange(flush_wanted_, false);
  ++rounds_begun_;
  Result<void> done = mend(lock);
  if (done) {
    std::vector<Change> batch;
    batch.swap(waiting_);
    in_round_ = batch.size();

    lock.unlock();
    if (!batch.empty()) done = apply(batch);
    if (done) batch.clear();
    const Result<void> synced = done && durable ? sync_journal() : Result<void>{};
    lock.lock();

    if (done) {
      written_.add(in_round_);
      unsynced_ = !durable || !synced;
      done = synced;
    } else {
      // Back to the front, in their order.
      batch.insert(batch.end(), std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
      waiting_.swap(batch);
    }
  }
  note_outcome(done);
  in_round_ = 0;
  pending_gauge_.set(static_cast<std::int64_t>(waiting_.size()));
  last_round_ = done;
  rounds_done_ = rounds_begun_;
  round_done_.notify_all();
}

Result<void> Catalog::Writer::apply(std::span<const Change> batch) {
  Result<void> done = Error(Errc::internal, "an exception");
  runtime::guarded("store", [&] { done = file_->apply(batch); });
  return done;
}

// What was committed is then on the disk. A part of it that is in the database by now was forced there by SQLite when
// it took it over from the WAL.
Result<void> Catalog::Writer::sync_journal() {
  const Result<runtime::File> journal = filesystem_.open_read(params_.file.native() + "-wal");
  if (!journal && journal.error().code == Errc::not_found) return {};
  if (!journal) return journal.error();
  if (Result<void> synced = filesystem_.sync(*journal); !synced) return synced;
  return filesystem_.sync_directory(params_.file.parent_path());
}

void Catalog::Writer::note_outcome(const Result<void>& done) {
  const bool was_failing = std::exchange(failing_, !done);
  degraded_.set(done ? 0 : 1);
  if (done) {
    failures_ = 0;
    if (was_failing) log::info("store", "the catalog can be written again");
    if (was_failing && on_trouble_) on_trouble_("");
    return;
  }
  errors_.add();
  ++failures_;
  if (done.error().code == Errc::corrupt) {
    need_ = Need::refill;
  } else if (need_ == Need::nothing && failures_ >= kFailuresBeforeReopening && done.error().code != Errc::no_space) {
    need_ = Need::reopen;
  }
  if (failures_ != 1) return;
  log::error("store", fmt::format("the catalog cannot be written: {}", done.error().message));
  if (on_trouble_) on_trouble_(done.error().message);
}

// Does what is needed before anything can be written. Without the lock, which it takes back.
Result<void> Catalog::Writer::mend(std::unique_lock<std::mutex>& lock) {
  Need need = need_;
  if (need == Need::nothing) return {};
  const bool keep_rows = unread_;
  lock.unlock();
  Result<void> done{};
  file_.reset();  // before another one is opened under its name
  Result<std::unique_ptr<CatalogFile>> opened = source_.open();
  if (opened) {
    file_ = std::move(*opened);
    if (file_->made()) need = Need::refill;  // the one that was to be opened is gone
    if (need == Need::refill) done = refill(keep_rows);
    if (!done) file_.reset();
  } else {
    done = opened.error();
  }
  std::shared_ptr<const runtime::File> identity = done ? identify() : nullptr;
  lock.lock();
  if (!done) {
    // What is there now is not what was read at the start, or not all of it.
    need_ = std::max(need_, need);
    return done;
  }
  // It may have vanished again meanwhile, which the next look tells.
  need_ = Need::nothing;
  if (file_->made()) unread_ = false;
  identity_ = std::move(identity);
  if (need == Need::refill) log::info("store", "the catalog was written again from memory");
  return done;
}

Result<void> Catalog::Writer::refill(bool keep_rows) {
  if (!keep_rows) {
    if (Result<void> cleared = file_->clear(); !cleared) return cleared;
  }
  return source_.everything([this](std::span<const Change> changes) { return file_->apply(changes); });
}

}  // namespace sluice::store
