#include "runtime/disk_pool.hpp"

#include <utility>

#include <boost/asio/thread_pool.hpp>

#include "runtime/guarded.hpp"

namespace sluice::runtime {

struct DiskPool::Threads {
  explicit Threads(std::size_t count) : fast(count), bulk(count) {}
  asio::thread_pool fast;
  asio::thread_pool bulk;
};

DiskPool::DiskPool(std::size_t threads) : threads_(std::make_unique<Threads>(threads == 0 ? 1 : threads)) {}

DiskPool::~DiskPool() { stop(); }

void DiskPool::post(Lane lane, std::function<void()> work) {
  asio::post(lane == Lane::fast ? threads_->fast : threads_->bulk, [work = std::move(work)] { guarded("disk", work); });
}

// The fast lane first: nothing of it waits for the other.
void DiskPool::stop() {
  threads_->fast.join();
  threads_->bulk.join();
}

}  // namespace sluice::runtime
